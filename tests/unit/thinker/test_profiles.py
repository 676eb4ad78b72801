"""vLLM profiles: their arguments, and files with the user's own profiles."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from services.protocol.critique.formats import FORMATS
from services.thinker.profiles import Overrides, Profile, ProfileError, arguments, load
from services.thinker.settings import Settings
from services.thinker.vllm import warnings_about

MINIMAL = Profile(model="m", served_name="s")


def _value(words: list[str], flag: str) -> str:
    """The value of the last occurrence of this flag, which wins."""
    return words[len(words) - words[::-1].index(f"--{flag}")]


def _own(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_built_in_profiles() -> None:
    """Each has a known format and a description; none has the embedded thinker's name."""
    profiles = load()
    assert set(profiles) == {"editthinker-8b", "qwen3-vl-8b", "qwen3-vl-30b-a3b", "qwen3-vl-4b-24gb", "tiny", "miniature"}
    assert all(profile.format in FORMATS and profile.about for profile in profiles.values())
    assert len({profile.served_name for profile in profiles.values()}) == len(profiles)


@pytest.mark.parametrize("name", sorted(load()))
def test_every_profile_serves_critiques(name: str) -> None:
    """A session's most pictures, no video, a prefix cache, no blanks in JSON, cached tokens reported, and no reasoning parser."""
    words = arguments(load()[name])
    assert json.loads(_value(words, "limit-mm-per-prompt")) == {"image": 18, "video": 0}
    assert json.loads(_value(words, "structured-outputs-config")) == {"backend": "xgrammar", "disable_any_whitespace": True}
    shortest, longest = (64, 64) if name == "miniature" else (256, 1024)
    assert json.loads(_value(words, "mm-processor-kwargs")) == {
        "size": {"shortest_edge": shortest**2, "longest_edge": longest**2}
    }
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(words)
    assert "--reasoning-parser" not in words


@pytest.mark.parametrize(
    ("backend", "asked"),
    [("xgrammar", [True]), ("guidance", [True]), ("auto", []), ("outlines", []), ("lm-format-enforcer", [])],
)
def test_whitespace_is_forbidden_where_the_backend_supports_it(backend: Any, asked: list[bool]) -> None:
    """vLLM refuses to start with this option and another backend."""
    config = json.loads(_value(arguments(replace(MINIMAL, structured_outputs_backend=backend)), "structured-outputs-config"))
    assert config["backend"] == backend
    assert [config[key] for key in config if key != "backend"] == asked


def test_unset_fields_are_left_to_vllm() -> None:
    """The minimal profile sets no size."""
    words = arguments(MINIMAL)
    assert words[:4] == ["serve", "m", "--served-model-name", "s"]
    sizes = {"--max-model-len", "--max-num-seqs", "--gpu-memory-utilization", "--kv-cache-memory-bytes", "--block-size"}
    assert not (sizes | {"--quantization", "--async-scheduling", "--mm-processor-kwargs", "--enforce-eager"}) & set(words)


def test_every_field_has_an_effect() -> None:
    """Except three that describe the profile for people and the orchestrator."""
    other: dict[str, Any] = {
        "model": "x",
        "served_name": "x",
        "dtype": "float16",
        "gpu_memory_utilization": 0.5,
        "images": 3,
        "quantization": "fp8",
        "mm_processor_cache_gb": 1.0,
        "mm_processor_cache_type": "shm",
        "structured_outputs_backend": "guidance",
        "mm_encoder_tp_mode": "data",
        "extra": ("--seed", "1"),
        **dict.fromkeys(("prefix_caching", "disable_any_whitespace", "async_scheduling", "prompt_tokens_details"), False),
        "enforce_eager": True,
    }
    informing = {"about", "format", "template"}
    for field in fields(Profile):
        # The two areas must be set together.
        areas: dict[str, Any] = {"min_pixels": 5, "max_pixels": 9} if "pixels" in field.name else {}
        changed: dict[str, Any] = {"model": "m", "served_name": "s", **areas, field.name: other.get(field.name, 7)}
        differs = arguments(Profile(**changed)) != arguments(Profile(model="m", served_name="s", **areas))
        assert differs is (field.name not in informing), field.name


def test_a_start_overrides_its_profile() -> None:
    """Address, weights and name; further arguments come after the profile's own."""
    profile = Profile(model="m", served_name="s", extra=("--seed", "1"))
    given = Overrides(host="::", port=7, model="/w", served_name="n", extra=("--seed", "2"))
    words = arguments(profile, given)
    assert words[1] == "/w"
    assert (_value(words, "host"), _value(words, "port"), _value(words, "served-model-name")) == ("::", "7", "n")
    assert words[-4:] == ["--seed", "1", "--seed", "2"]


def test_a_user_s_profile_extends_another(tmp_path: Path) -> None:
    """Also one that extends in turn, in any order; the template's path is relative to the file."""
    (tmp_path / "prompt.txt").write_text("{original_instruction}", "utf-8")
    own = _own(
        tmp_path,
        '[wide]\nextends = "mine"\ntensor_parallel_size = 4\n'
        '[mine]\nextends = "editthinker-8b"\ntemplate = "prompt.txt"\ngpu_memory_utilization = 1\nextra = ["--seed", "0"]\n',
    )
    wide = load(own)["wide"]
    assert (wide.model, wide.tensor_parallel_size, wide.extra) == ("appletea2333/EditThinker-8B", 4, ("--seed", "0"))
    assert wide.template == str(tmp_path / "prompt.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_num_seqs = 3", r"max_num_seqs is outside of a profile"),
        ('[mine]\nmodel = "m"', r"\[mine\] served_name"),
        ('[mine]\nextends = "qwen3-vl-8b"\nmax_seqs = 3', r"\[mine\] max_seqs: there is no such key"),
        ('[mine]\nextends = "qwen3-vl-8b"\nmax_num_seqs = "3"', r"\[mine\] max_num_seqs: .*integer"),
        ('[mine]\nextends = "qwen3-vl-8b"\nmax_num_seqs = 0', r"\[mine\] max_num_seqs: .*greater"),
        ('[mine]\nextends = "qwen3-vl-8b"\nprefix_caching = 1', r"\[mine\] prefix_caching"),
        ('[mine]\nextends = "qwen3-vl-8b"\nextra = "--seed 1"', r"\[mine\] extra"),
        ('[mine]\nextends = "qwen3-vl-8b"\nextra = [1]', r"\[mine\] extra: 0: "),
        ('[mine]\nmodel = "m"\nserved_name = "s"\nmax_pixels = 9', r"\[mine\] min_pixels and max_pixels go together"),
        ('[mine]\nextends = "qwen3-vl-8b"\nmin_pixels = 9999999', r"\[mine\] min_pixels is above max_pixels"),
        ('[mine]\nextends = "qwen3-vl-8b"\nformat = "haiku"', r"\[mine\] format"),
        ('[mine]\nextends = "qwen3-vl-8b"\ntemplate = "none.txt"', r"\[mine\] template: there is no file .*none.txt"),
        ('[mine]\nextends = "theirs"', r"\[mine\] extends: 'theirs' is not a profile to extend"),
        ("[mine]\nextends = 3", r"\[mine\] extends: 3 is not a profile to extend"),
        ('[a]\nextends = "b"\n[b]\nextends = "a"', r"extends: '.' is not a profile to extend"),
        ("[qwen3-vl-8b]", r"\[qwen3-vl-8b\] is a built-in profile"),
        ("[rules]", r"\[rules\] is a built-in profile"),
        ("[mine", r"own.toml is not valid TOML"),
    ],
)
def test_an_invalid_file_is_refused_naming_profile_and_key(tmp_path: Path, text: str, message: str) -> None:
    """Before anything starts."""
    with pytest.raises(ProfileError, match=message):
        load(_own(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(ProfileError, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_every_key_profile_and_setting_is_documented() -> None:
    """In docs/thinker.md."""
    text = (Path(__file__).parents[3] / "docs" / "thinker.md").read_text("utf-8")
    names = [*load(), *(field.name for field in fields(Profile)), *(name.upper() for name in Settings.model_fields)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_a_model_of_the_hub_without_a_revision_is_warned_of(tmp_path: Path) -> None:
    """Its weights may be others tomorrow; a folder's are not, and a pinned model's are not."""
    unpinned, folder = arguments(MINIMAL), arguments(replace(MINIMAL, model=str(tmp_path)))
    pinned = arguments(replace(MINIMAL, revision="0123abc"))

    assert ["EDITTHINKER_THINKER_REVISION" in warning for warning in warnings_about(unpinned)] == [True]
    assert warnings_about(folder) == warnings_about(pinned) == []
    assert _value(pinned, "revision") == "0123abc"


def test_the_revision_of_a_profile_does_not_apply_to_another_model() -> None:
    profile = replace(MINIMAL, revision="0123abc")

    assert "--revision" not in arguments(profile, Overrides(model="another/model"))
    assert _value(arguments(profile, Overrides(model="another/model", revision="9f")), "revision") == "9f"
