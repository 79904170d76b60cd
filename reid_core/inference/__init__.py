"""Trained models in use: loaded from checkpoints, model folders or the Hugging Face hub; features of images."""

from reid_core.inference.hub import push_model_folder
from reid_core.inference.loading import load
from reid_core.inference.model import ReIDModel
from reid_core.inference.model_folder import save_model_folder

__all__ = ["ReIDModel", "load", "push_model_folder", "save_model_folder"]
