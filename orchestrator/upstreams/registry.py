"""Editors, thinkers and judges by name: from three variables, or from a file that can be changed while the server runs.

A file is TOML. Its editors, thinkers and judges are added to those of the variables, and take precedence where names are equal::

    default_editor = "kontext"

    [editors.kontext]
    url = "http://pool:8000/v1"
    api_key_file = "/run/secrets/editor"
    parameters = ["size", "num_inference_steps", "guidance_scale"]
    fallback = "classical"

    [thinkers.editthinker]
    url = "http://thinker:8200/v1"
    model = "editthinker-8b"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from orchestrator.ports.collaborators import SESSIONS_THINKER
from services.protocol.critique.constraints import Constraint
from services.protocol.critique.formats import FORMATS, FormatName, ReplyFormat
from services.protocol.critique.pairs import pair_template
from services.protocol.critique.prompts import Template
from services.protocol.critique.score_formats import SCORE_FORMATS, ScoreFormatName
from services.protocol.images_api import MAX_IMAGES
from services.protocol.rewriting import REWRITERS, Rewriter, RewriterName, default_prompt
from services.serving.log_format import HttpUrl

JudgeFormatName = FormatName | ScoreFormatName | Literal["pairwise", "http"]
"""How a judge is asked and answers (`orchestrator.upstreams.judges`)."""
NOT_SCORING: Final[frozenset[JudgeFormatName]] = frozenset({"pairwise"})
"""Formats of judges that only compare: the session's thinker scores."""
_AZURE: Final = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class UpstreamSettings(BaseModel):
    """An upstream's address and credentials, and the bounds of calls to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: HttpUrl = Field(min_length=1, description="Base URL, up to and including /v1.")
    model: str | None = Field(None, description="The server's own name for the model.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    api_key_file: Path | None = Field(None, description="A file with the key, read when the settings are.")
    attempts: int = Field(4, ge=1, le=20, description="Requests of one call while the server is overloaded or away.")
    timeout_s: float = Field(600, gt=0, description="Seconds one call may take, retries included.")
    first_silence_s: float = Field(
        150, gt=0, description="Seconds a request may go without an answer while the pace of the server is not known."
    )
    min_silence_s: float = Field(
        10, gt=0, description="Seconds a request may go without an answer at least; twice what answers usually take if more."
    )
    max_reply_bytes: int = Field(
        128 * 1024 * 1024, ge=1024, description="Bytes of a reply; of an edit also no more than its picture can take."
    )

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give api_key or api_key_file, not both")
        try:
            self.key()
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(f"api_key_file cannot be read: {exc}") from exc
        return self

    def key(self) -> str | None:
        """The API key, or None."""
        if self.api_key_file is not None:
            return self.api_key_file.read_text("utf-8").strip()
        return self.api_key.get_secret_value() if self.api_key else None


class EditorSettings(UpstreamSettings):
    """An editor: a server of ``POST /v1/images/edits``."""

    parameters: frozenset[str] = Field(
        frozenset({"size"}),
        description="Extension fields it takes (size, negative_prompt, num_inference_steps, guidance_scale, true_cfg_scale, "
        "image_guidance_scale, strength, lora, lora_scale, background, input_fidelity, moderation, complexity); others are "
        "refused.",
    )
    aliases: tuple[str, ...] = Field((), description="Further names by which callers may ask for it, as gpt-image-1.")
    mask: bool | None = Field(None, description="Whether it takes a mask; if absent, as its list of models says, or else not.")
    images: int | None = Field(
        None, ge=1, le=MAX_IMAGES, description="Pictures that an edit takes; if absent, as its list of models says, or else 1."
    )
    send_seed: bool = Field(True, description="Whether it takes the extension field `seed`.")
    send_output_format: bool = Field(True, description="Whether it takes `output_format`; it is asked for png.")
    native_size: bool = Field(
        True, description="Whether it may answer at its native size between turns, where its list of models says that it can."
    )
    boxes: bool = Field(
        False,
        description="Whether an edit is handed the places of the critique that refined its instruction, where its list of models "
        "says that it takes boxes.",
    )
    max_in_flight: int | None = Field(
        None, ge=1, description="Edits that this replica keeps in flight; found adaptively if absent."
    )
    fallback: str | None = Field(None, description="The editor to use when this one is away or fails.")
    preparer: str | None = Field(
        None, description="Which preparer rewrites instructions for it, or `thinker` for the session's thinker; none if absent."
    )
    prepare: bool | None = Field(
        None, description="Whether that is done unless a request says otherwise; if absent, where the editor's makers ask for it."
    )
    response_format: Literal["auto", "send", "omit"] = Field(
        "auto", description="Whether it is asked for b64_json; auto: unless it is OpenAI's or Azure's, which refuse the field."
    )
    image_hosts: tuple[str, ...] = Field(
        (), description="Hosts whose links in its replies are fetched, as files.example.com or 10.0.0.7:9000; none if absent."
    )

    @field_validator("image_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not host or "/" in host or "*" in host or "@" in host or host != host.strip():
                raise ValueError(f"image_hosts: {host!r} is not a host; write files.example.com, or 10.0.0.7:9000 with a port")
        return tuple(host.lower() for host in hosts)

    @property
    def asks_for_base64(self) -> bool:
        """Whether requests to it have the field ``response_format``."""
        if self.response_format != "auto":
            return self.response_format == "send"
        host = urlsplit(self.url).hostname or ""
        # Their image models answer base64 alone, and refuse the field (openai-python 3.54, types/image_edit_params.py).
        return host != "api.openai.com" and not host.endswith(_AZURE)


class _VisionModelSettings(UpstreamSettings):
    """What thinkers and judges have in common."""

    constraint: Constraint | Literal["auto"] = Field(
        "auto", description="How the server constrains its replies; `auto` probes it."
    )
    template: Path | None = Field(None, description="A prompt template file; ours if absent.")
    quality_template: Path | None = Field(
        None, description="The prompt file of the second request of editscore and digit; ours if absent."
    )
    sampling: dict[str, Any] = Field(
        default_factory=lambda: {"temperature": 0, "max_tokens": 4096}, description="Further fields of the request."
    )
    max_reply_bytes: int = Field(
        1024 * 1024, ge=1024, description="Bytes of a reply; 16 samples of 4,096 tokens have a quarter of the default."
    )
    samples: int = Field(1, ge=1, le=16, description="Critiques of each candidate; the mean of their scores counts.")
    max_pixels: int | None = Field(
        4_194_304, ge=1024, description="Larger images are scaled down to it, once; null sends them unchanged."
    )
    places: bool = Field(False, description="Whether its critiques point at places; formats json_schema and checklist.")
    images: int | None = Field(
        None, ge=2, description="Pictures that a request may hold; a request for which a critique needs more is refused."
    )
    pairs: bool = Field(False, description="Whether it also compares two pictures side by side, in the format `pairwise`.")
    away_s: float = Field(60, ge=0, description="Seconds for which calls are retried while it restarts.")
    fallback: str | None = Field(None, description="The one of its kind to use when this one fails.")

    def prompt_of(self, name: str) -> Template:
        """Its prompt template, or the packaged one of a format."""
        return Template.named(name) if self.template is None else Template(self.template.read_text("utf-8"))

    def quality_prompt_of(self, name: str) -> str:
        """The prompt of the second request of a format that only gives scores."""
        if self.quality_template is None:
            return SCORE_FORMATS[name].quality_prompt()
        return self.quality_template.read_text("utf-8")

    def check_format(self, name: str) -> None:
        """Whether it can be asked for critiques in this format.

        Raises:
            ValueError: with what does not fit.
        """
        try:
            template = self.prompt_of(name)
        except OSError as exc:
            raise ValueError(f"the template cannot be read: {exc}") from exc
        if name == "checklist" and not template.lists_questions:
            raise ValueError("the format checklist needs a template that lists {questions}; leave template out, or add it")
        scores = SCORE_FORMATS.get(name)
        if self.places and (scores or not FORMATS[name].points):
            names = " or ".join(name for name, form in FORMATS.items() if form.points)
            raise ValueError(f"the format {name} cannot point at places; use {names}, or leave places out")
        if self.pairs and scores:
            raise ValueError(f"the format {name} only gives scores; leave pairs out, or add a judge of the format pairwise")
        form: ReplyFormat[Any] = scores.reply_format if scores else FORMATS[name].bind()
        if self.constraint not in {"none", "auto"} and not form.constraint(self.constraint):  # type: ignore[arg-type]
            raise ValueError(f"the format {name} has no {self.constraint} constraint")
        if self.samples > 1 and scores and not scores.sampled:
            raise ValueError(f"samples above 1 are all alike with the format {name}; leave samples at 1")
        if self.samples > 1 and not self.sampling.get("temperature"):
            raise ValueError("samples above 1 would all be alike at temperature 0; set sampling.temperature too")
        self._check_quality_prompt(name)

    def _check_quality_prompt(self, name: str) -> None:
        if self.quality_template is None:
            return
        if name not in SCORE_FORMATS:
            raise ValueError(f"quality_template is for {' and '.join(SCORE_FORMATS)}; the format {name} has one request")
        try:
            marks = self.quality_prompt_of(name).count("<image>")
        except OSError as exc:
            raise ValueError(f"the quality_template cannot be read: {exc}") from exc
        if marks > 1:
            raise ValueError(f"the quality_template shows one picture, and has {marks} <image> marks; leave one")

    @field_validator("constraint", mode="before")
    @classmethod
    def _removed_constraints(cls, constraint: object) -> object:
        # docs/decisions/0020: accepted up to version 0.1.
        if isinstance(constraint, str) and constraint in {"grammar", "structural_tag"}:
            raise ValueError(f"the constraint {constraint} was removed; use auto, regex or json_schema")
        return constraint


class ThinkerSettings(_VisionModelSettings):
    """A thinker: any server of ``POST /v1/chat/completions`` that takes images."""

    model: str = Field(description="The server's name for the model.")
    format: FormatName | ScoreFormatName = Field("editthinker", description="The format of its critiques.")

    def prompt(self) -> Template:
        """Its prompt template."""
        return self.prompt_of(self.format)

    def quality_prompt(self) -> str:
        """The prompt of the second request of a format that only gives scores."""
        return self.quality_prompt_of(self.format)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        self.check_format(self.format)
        return self


class PreparerSettings(UpstreamSettings):
    """A preparer: a server of ``POST /v1/chat/completions`` whose model rewrites instructions before the first edit."""

    model: str = Field(description="The server's name for the model.")
    format: RewriterName = Field("template", description="template for any model; qwen-pe-i2i or flux3-pup for those two.")
    template: Path | None = Field(
        None, description="The prompt: for template a template file, ours if absent; else the system prompt of the checkpoint."
    )
    constraint: Constraint | Literal["auto"] = Field("auto", description="As a thinker's; only for the format template.")
    sampling: dict[str, Any] | None = Field(None, description="Further fields of the request; those of its makers if absent.")
    max_reply_bytes: int = Field(1024 * 1024, ge=1024, description="Bytes of a reply, thoughts included.")
    max_pixels: int | None = Field(
        1_048_576, ge=1024, description="Larger images are scaled down to it; null sends them unchanged."
    )
    away_s: float = Field(5, ge=0, description="Seconds for which calls are retried while it restarts.")

    @property
    def rewriter(self) -> Rewriter:
        """How it is asked."""
        return REWRITERS[self.format]

    def prompt(self) -> str:
        """Its prompt."""
        return default_prompt() if self.template is None else self.template.read_text("utf-8")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.rewriter.is_system and self.template is None:
            raise ValueError(f"the format {self.format} needs template: a file with the system prompt of its checkpoint")
        try:
            prompt = self.prompt()
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(f"the template cannot be read: {exc}") from exc
        if not self.rewriter.is_system and Template(prompt).marks_pictures:
            raise ValueError("the template of a preparer has no <image> marks: the pictures come first; remove them")
        return self


class JudgeSettings(_VisionModelSettings):
    """A judge that is no thinker: it scores or compares candidates, and another model writes the next instruction."""

    format: JudgeFormatName = Field("json_schema", description="How it is asked and how it answers.")

    @property
    def scores(self) -> bool:
        """Whether it scores single pictures."""
        return self.format not in NOT_SCORING

    @property
    def compares(self) -> bool:
        """Whether it compares two pictures side by side."""
        return self.pairs or not self.scores

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.format == "http":
            return self
        if self.model is None:
            raise ValueError(f"the format {self.format} needs the server's name for the model; give model")
        if self.format == "pairwise":
            self._check_pairs()
        else:
            self.check_format(self.format)
        return self

    def _check_pairs(self) -> None:
        try:
            pair_template(self.template.read_text("utf-8") if self.template else None)
        except OSError as exc:
            raise ValueError(f"the template cannot be read: {exc}") from exc


class Registry(BaseModel):
    """The configured editors, thinkers, judges and preparers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    editors: dict[str, EditorSettings] = Field(default_factory=dict)
    thinkers: dict[str, ThinkerSettings] = Field(default_factory=dict)
    judges: dict[str, JudgeSettings] = Field(default_factory=dict)
    preparers: dict[str, PreparerSettings] = Field(default_factory=dict)
    default_editor: str | None = None
    default_thinker: str | None = None
    default_judge: str | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for what, names, default in (
            ("editors", self.editors, self.default_editor),
            ("thinkers", self.thinkers, self.default_thinker),
        ):
            if not names:
                raise ValueError(f"there are no {what}: name at least one in EDITTHINKER_{what.upper()} or EDITTHINKER_REGISTRY")
            if default is not None and default not in names:
                raise ValueError(f"EDITTHINKER_DEFAULT_{what[:-1].upper()} is {default!r}, which is none of {sorted(names)}")
        for what, entries in (("thinkers", self.thinkers), ("judges", self.judges), ("editors", self.editors)):
            for name, entry in entries.items():
                if entry.fallback is not None and (entry.fallback not in entries or entry.fallback == name):
                    raise ValueError(f"{what}.{name}.fallback is {entry.fallback!r}; name another of {sorted(entries)}")
        _check_aliases(self.editors)
        _check_preparers(self)
        for name, editor in self.editors.items():
            if editor.fallback is not None:
                _check_fallback(name, editor, self.editors[editor.fallback])
        return self

    @model_validator(mode="after")
    def _judges_exist(self) -> Self:
        if both := sorted(self.judges.keys() & self.thinkers.keys()):
            raise ValueError(f"{both[0]!r} is both a thinker and a judge; rename one: a thinker can be named as a judge as well")
        known = sorted({*self.judges, *self.thinkers})
        if self.default_judge is not None and self.default_judge not in known:
            raise ValueError(f"EDITTHINKER_DEFAULT_JUDGE is {self.default_judge!r}, which is none of {known}")
        for name, judge in self.judges.items():
            other = self.judges[judge.fallback] if judge.fallback else judge
            if (judge.scores, judge.compares) != (other.scores, other.compares):
                raise ValueError(f"judges.{name}.fallback: {judge.fallback} does not score and compare as {name} does")
        return self

    @property
    def first_editor(self) -> str:
        """The editor when none is named."""
        return self.default_editor or next(iter(self.editors))

    @property
    def first_thinker(self) -> str:
        """The thinker when none is named."""
        return self.default_thinker or next(iter(self.thinkers))

    def prepares(self, editor: EditorSettings) -> bool:
        """Whether instructions for an editor are rewritten unless a request says otherwise: where its makers ask for it."""
        if editor.prepare is not None:
            return editor.prepare
        named = self.preparers.get(editor.preparer or "")
        return named is not None and named.rewriter.required

    def keys(self) -> list[str]:
        """The API keys of all upstreams, which logs must not contain."""
        roles: tuple[Mapping[str, UpstreamSettings], ...] = (self.editors, self.thinkers, self.judges, self.preparers)
        return [key for entries in roles for entry in entries.values() if (key := entry.key())]


def read(path: Path) -> dict[str, Any]:
    """The fields of a registry file.

    Raises:
        ValueError: if it is invalid, saying why.
    """
    try:
        fields = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"the registry {path} cannot be read: {exc}") from exc
    if unknown := sorted(fields.keys() - Registry.model_fields.keys()):
        raise ValueError(f"the registry {path} has {unknown[0]!r}; it may have {', '.join(Registry.model_fields)}")
    for what in ("editors", "thinkers", "judges", "preparers"):
        if not isinstance(fields.get(what, {}), dict):
            raise ValueError(f"the registry {path}: {what} is not a table; write [{what}.<name>]")  # noqa: TRY004 - as documented
    return fields


def _check_aliases(editors: Mapping[str, EditorSettings]) -> None:
    """Check that no two editors have the same name."""
    taken = {name: name for name in editors}
    for name, editor in editors.items():
        for alias in editor.aliases:
            if (owner := taken.setdefault(alias, name)) != name or alias == name or not alias.strip():
                raise ValueError(f"editors.{name}.aliases: {alias!r} is a name of {owner} already; choose another")


def _check_preparers(registry: Registry) -> None:
    """Check that every editor's preparer exists, by a name that no thinker has."""
    for name in registry.preparers:
        if name in registry.thinkers or name == SESSIONS_THINKER:
            raise ValueError(f"preparers.{name}: a thinker has this name; choose another")
    for name, editor in registry.editors.items():
        if editor.preparer is None and editor.prepare:
            raise ValueError(f"editors.{name}.prepare: it has no preparer; name one in preparer, or leave it out")
        if editor.preparer not in {None, SESSIONS_THINKER, *registry.preparers}:
            known = ", ".join(sorted(registry.preparers)) or "none"
            message = f"editors.{name}.preparer is {editor.preparer!r}; name one of EDITTHINKER_PREPARERS ({known}), or thinker"
            raise ValueError(message)


def _check_fallback(name: str, editor: EditorSettings, other: EditorSettings) -> None:
    """Check that the fallback accepts every field that the first accepts, as far as the configuration says."""
    if missing := sorted(editor.parameters - other.parameters):
        raise ValueError(f"editors.{name}.fallback: {editor.fallback} does not take {', '.join(missing)}")
    if editor.mask and other.mask is False:
        raise ValueError(f"editors.{name}.fallback: {editor.fallback} takes no mask")
    if editor.images and other.images and editor.images > other.images:
        raise ValueError(f"editors.{name}.fallback: {editor.fallback} takes fewer images ({other.images} of {editor.images})")
