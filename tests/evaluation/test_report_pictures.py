"""Pictures as HTML: the bytes are in the page, words are escaped."""

import base64
import re

from reid_core.evaluation.report_pictures import Picture, picture_plots


def test_the_bytes_are_in_the_page_and_words_are_escaped():
    pictures = [Picture("<b>a caption</b>", 'a "description"', b"\x89PNG first"), Picture("two", "2", b"second")]
    html = picture_plots(pictures)
    found = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]*)", html)]
    assert found == [b"\x89PNG first", b"second"]
    assert "&lt;b&gt;a caption&lt;/b&gt;" in html and 'alt="a &quot;description&quot;"' in html
    assert html.count("<figure>") == html.count("</figure>") == 2


def test_nothing_gives_nothing():
    assert picture_plots([]) == ""
