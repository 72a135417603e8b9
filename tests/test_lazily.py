"""A module that another one would import is imported when something is asked of it."""

import sys

from aftermap.lazily import import_without


def test_a_module_left_out_is_there_when_it_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "made_up_cloud.py").write_text("client = 'of the cloud'\n")
    (tmp_path / "made_up_reader.py").write_text(
        "try:\n    import made_up_cloud\nexcept ImportError:\n    made_up_cloud = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import_without("made_up_reader", "made_up_cloud")
    assert "made_up_cloud" not in sys.modules
    assert sys.modules["made_up_reader"].made_up_cloud.client == "of the cloud"
    assert "made_up_cloud" in sys.modules
    for name in ("made_up_reader", "made_up_cloud"):
        sys.modules.pop(name)


def test_nothing_is_done_for_what_is_not_installed():
    import_without("made_up_reader", "made_up_cloud")
    assert "made_up_reader" not in sys.modules
