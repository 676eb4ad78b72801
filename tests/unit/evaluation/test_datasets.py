"""Datasets in the benchmarks' own layouts: what is read, where results go, and how a wrong file is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.datasets import KINDS, load, parse
from evaluation.items import DatasetError
from tests.doubles.layouts import LAYOUTS, picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_layout_is_read(kind: str, tmp_path: Path) -> None:
    dataset = load(kind, LAYOUTS[kind](tmp_path, 24))
    assert (dataset.name, len(dataset.items)) == (kind, 24)
    assert len({dataset.output(item, "think") for item in dataset.items}) == 24
    for item in dataset.items:
        assert all(source.read() for source in item.sources) and item.instruction
        assert not dataset.output(item, "think").is_absolute() and ".." not in dataset.output(item, "think").parts
    digests = {item.digest for item in dataset.items}
    assert digests == {item.digest for item in load(kind, tmp_path).items} and len(digests) == 24


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("imgedit", "think/1000.png"),
        ("gedit", "think/fullset/background_change/en/key0.png"),
        ("risebench", "think/images/temporal_reasoning/temporal_reasoning_0.png"),
        ("krisbench", "results/think/count_change/0.jpg"),
        ("own", "think/photo-0.png"),
    ],
)
def test_results_go_where_the_official_scripts_look(kind: str, output: str, tmp_path: Path) -> None:
    dataset = load(kind, LAYOUTS[kind](tmp_path, 22))
    item = next(
        each for each in dataset.items if each.id.rsplit("/")[-1] in {"1000", "key0.en", "0", "photo-0"} or "_0" in each.id
    )
    assert str(dataset.output(item, "think")) == output
    companions = [str(path) for path in dataset.companions(item, "think")]
    assert companions == (["think/fullset/background_change/en/key0_SRCIMG.png"] if kind == "gedit" else [])


def test_kris_items_with_several_pictures(tmp_path: Path) -> None:
    LAYOUTS["krisbench"](tmp_path, 22)
    several = [len(item.sources) for item in load("krisbench", tmp_path).items if len(item.sources) > 1]
    assert several == [3, 3]
    assert {len(item.sources) for item in load("krisbench", tmp_path, first_source_only=True).items} == {1}


def test_gedits_languages(tmp_path: Path) -> None:
    LAYOUTS["gedit"](tmp_path, 4)
    assert [len(load("gedit", tmp_path, language=name).items) for name in ("en", "cn", "all")] == [4, 4, 8]


def test_a_row_without_a_reference_or_with_a_flag_of_risebench(tmp_path: Path) -> None:
    items = load("risebench", LAYOUTS["risebench"](tmp_path, 12)).items
    assert [item.id for item in items if item.extra["consistency_free"]] == ["temporal_reasoning_0", "temporal_reasoning_8"]
    assert items[3].extra["answer"] == items[3].reference != ""


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_a_table_of_ones_own(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1, kind="PNG"))
    table = tmp_path / f"items.{suffix}"
    rows: list[dict[str, Any]] = [{"image": "a.png", "instruction": "make it,\tbright"}]
    match suffix:
        case "parquet":
            rows = [{"image": {"bytes": picture(1), "path": None}, "instruction": "make it,\tbright"}]
            pq.write_table(pa.Table.from_pylist(rows), table)
        case "json" | "jsonl":
            table.write_text(json.dumps(rows if suffix == "json" else rows[0]))
        case _:
            comma = "\t" if suffix == "tsv" else ","
            table.write_text(f'image{comma}instruction\na.png{comma}"make it,\tbright"\n')
    for path in (table, tmp_path):
        (item,) = load("own", path).items
        assert (item.id, item.instruction, len(item.sources)) == ("1", "make it,\tbright", 1)
        assert item.sources[0].read()


def test_a_folder_of_pictures_with_one_instruction(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(picture(2))
    assert [item.id for item in load("own", tmp_path, instruction="brighter").items] == ["a.png", "b.jpg"]
    with pytest.raises(DatasetError, match="give an instruction"):
        load("own", tmp_path)


def broken(folder: Path, change: dict[str, Any]) -> Path:
    LAYOUTS["imgedit"](folder, 2)
    listed = json.loads((folder / "basic_edit.json").read_text())
    listed["1001"] = {name: value for name, value in (listed["1001"] | change).items() if value is not None}
    (folder / "basic_edit.json").write_text(json.dumps(listed))
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "basic_edit.json, item '1001': the field prompt is missing"),
        ({"prompt": " "}, "item '1001': the field prompt is empty"),
        ({"prompt": 7}, "the field prompt is a number, and not a text"),
        ({"id": "no.jpg"}, "the field id names a file that does not exist: "),
        ({"id": "../../etc/passwd"}, "the field id leads out of "),
        ({"id": "/etc/passwd"}, "the field id leads out of "),
    ],
)
def test_an_error_names_file_row_and_field(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        load("imgedit", broken(tmp_path, change))
    assert said in str(caught.value)


def test_other_errors_of_layouts(tmp_path: Path) -> None:
    for kind in KINDS:
        empty = tmp_path / kind
        empty.mkdir()
        with pytest.raises(DatasetError, match=str(empty)):
            load(kind, empty)
    (tmp_path / "risebench" / "data_total.json").write_text("{")
    with pytest.raises(DatasetError, match="is not JSON"):
        load("risebench", tmp_path / "risebench")
    (tmp_path / "imgedit" / "basic_edit.json").write_text('{"../x": {"id": "a", "prompt": "b", "edit_type": "add"}}')
    with pytest.raises(DatasetError, match="cannot be a file name"):
        load("imgedit", tmp_path / "imgedit")
    (tmp_path / "own" / "items.csv").write_text("id,image,instruction\n1,x.png,a\n1,x.png,a\n")
    (tmp_path / "own" / "x.png").write_bytes(picture(0, kind="PNG"))
    with pytest.raises(DatasetError, match="the id '1' occurs twice"):
        load("own", tmp_path / "own")
    (tmp_path / "own" / "x.png").write_bytes(b"no picture")
    (tmp_path / "own" / "items.csv").write_text("id,image,instruction\n1,x.png,a\n")
    with pytest.raises(DatasetError, match="is not a PNG"):
        load("own", tmp_path / "own").items[0].sources[0].read()


def test_the_words_of_a_dataset() -> None:
    assert parse("gedit=/data/gedit") == ("gedit", Path("/data/gedit"))
    for words in ("gedit", "gedit=", "cats=/data"):
        with pytest.raises(DatasetError, match="write KIND=PATH"):
            parse(words)
