"""Calls of one group get the same answers from one pass as alone; calls that cannot share a pass have different groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.editor.pipelines.diffusion.calls import Call, Collation, Fingerprints, group_of, merge, split

COLLATIONS = {
    "hidden_states": Collation.CAT,
    "timestep": Collation.CAT,
    "sigma": Collation.EXPAND,
    "encoder_hidden_states": Collation.PAD,
    "encoder_hidden_states_mask": Collation.MASK,
    "img_shapes": Collation.LIST,
    "img_ids": Collation.SAME,
    "added": Collation.DICT,
}
CHANNELS = 3


def group(call: Call, collations: dict[str, Collation] | None = None) -> Any:
    return group_of(call, COLLATIONS if collations is None else collations, Fingerprints())


def made(*, samples: int = 1, tokens: int = 4, text: int = 5, seed: int = 0, masked: int = 0, **more: Any) -> Call:
    """A call like a transformer's; ``masked`` text tokens at the end are masked out."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.ones(samples, text, dtype=torch.long)
    mask[:, text - masked :] = 0
    arguments = {
        "hidden_states": torch.randn(samples, tokens, CHANNELS, generator=random),
        "timestep": torch.randn(samples, generator=random),
        "sigma": torch.randn((), generator=random),
        "encoder_hidden_states": torch.randn(samples, text, CHANNELS, generator=random),
        "encoder_hidden_states_mask": mask if masked else None,
        "img_shapes": [[(1, tokens, 1)]] * samples,
        "img_ids": torch.arange(tokens),
        "added": {"pooled": torch.randn(samples, CHANNELS, generator=random)},
        "guidance": None,
        "return_dict": False,
    }
    return Call(arguments | more)


def model(**arguments: Any) -> tuple[torch.Tensor, ...]:
    """Every argument counts, masked text does not, and no sample sees another."""
    text, mask = arguments["encoder_hidden_states"], arguments["encoder_hidden_states_mask"]
    heard = (text if mask is None else text * mask.unsqueeze(-1)).double().sum(dim=1)
    each = heard.sum(dim=-1) + arguments["timestep"].double() + arguments["sigma"] + arguments["added"]["pooled"].sum(dim=-1)
    shapes = torch.tensor([shape[0][1] for shape in arguments["img_shapes"]])
    whole = arguments["hidden_states"] + (each + shapes + arguments["img_ids"].sum()).view(-1, 1, 1)
    return whole, heard


calls = st.builds(
    made,
    samples=st.integers(1, 3),
    tokens=st.just(4),
    text=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    masked=st.integers(0, 1),
)


@given(st.lists(calls, min_size=1, max_size=6))
def test_each_call_gets_its_own_share_of_a_merged_pass(batch: list[Call]) -> None:
    assert len({group(call) for call in batch}) == 1
    shares = split(model(**merge(batch, COLLATIONS)), batch)
    for call, share in zip(batch, shares, strict=True):
        for part, own in zip(share, model(**call.arguments), strict=True):
            assert part.shape == own.shape
            assert torch.allclose(part, own, atol=1e-6)


@given(calls)
def test_a_single_calls_arguments_are_passed_untouched(call: Call) -> None:
    assert merge([call], COLLATIONS) is call.arguments
    answer = object()
    assert split(answer, [call]) == [answer]


@given(calls, st.permutations(range(4)))
def test_calls_with_different_positions_never_share_a_group(call: Call, order: list[int]) -> None:
    other = Call(call.arguments | {"img_ids": torch.tensor(order)})
    assert (group(call) == group(other)) == (order == sorted(order))


@given(calls, st.sampled_from([torch.zeros(1, 4), torch.zeros(()), [1, 2], {"a": 1}, object()]))
def test_a_call_with_an_undeclared_argument_is_not_batched(call: Call, value: object) -> None:
    assert group(Call(call.arguments | {"unheard_of": value})) is None


@given(calls, st.sampled_from([None, False, 1.5, "text"]), st.sampled_from([None, True, 2.5, "other"]))
def test_plain_values_must_be_equal(call: Call, one: object, other: object) -> None:
    groups = [group(Call(call.arguments | {"plain": value})) for value in (one, other)]
    assert None not in groups
    assert (groups[0] == groups[1]) == (one == other)


@given(st.integers(1, 9), st.integers(1, 9))
def test_texts_of_different_lengths_share_a_group_only_with_a_mask(one: int, other: int) -> None:
    assert group(made(text=one)) == group(made(text=other))
    unmasked = [made(text=length) for length in (one, other)]
    for call in unmasked:
        del call.arguments["encoder_hidden_states_mask"]
    assert (group(unmasked[0]) == group(unmasked[1])) == (one == other)


def test_equal_lengths_without_masks_are_merged_without_one() -> None:
    assert merge([made(seed=1), made(seed=2)], COLLATIONS)["encoder_hidden_states_mask"] is None
    assert merge([made(seed=1), made(seed=2, text=7)], COLLATIONS)["encoder_hidden_states_mask"].tolist() == [
        [1] * 5 + [0] * 2,
        [1] * 7,
    ]


def test_masks_are_kept_where_padding_is_not_allowed() -> None:
    """An attention backend without masks makes PAD a CAT: masks of the pipeline itself must be kept."""
    collations = COLLATIONS | {"encoder_hidden_states": Collation.CAT}
    batch = [made(seed=1, masked=2), made(seed=2, masked=1)]
    assert group(batch[0], collations) == group(batch[1], collations) is not None
    assert group(batch[0], collations) != group(made(seed=1), collations)
    assert merge(batch, collations)["encoder_hidden_states_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]


@pytest.mark.parametrize("name", sorted(COLLATIONS.keys() - {"hidden_states", "encoder_hidden_states"}))
def test_an_argument_that_is_none_for_all_stays_none(name: str) -> None:
    batch = [Call(made(seed=seed).arguments | {name: None}) for seed in (1, 2)]
    assert group(batch[0]) == group(batch[1]) is not None
    assert merge(batch, COLLATIONS)[name] is None


@pytest.mark.parametrize(
    "shape",
    [{"tokens": 6}, {"hidden_states": torch.zeros(1, 4, CHANNELS, dtype=torch.float64)}, {"img_shapes": [[(1, 2, 2)]]}],
)
def test_different_shapes_dtypes_and_geometries_have_different_groups(shape: dict[str, Any]) -> None:
    assert group(made()) != group(made(**shape))


@pytest.mark.parametrize(
    "argument",
    [
        {"timestep": torch.zeros(())},
        {"timestep": torch.zeros(1)},
        {"encoder_hidden_states": torch.zeros(1, 5, CHANNELS)},
        {"img_shapes": [[(1, 4, 1)]]},
        {"img_shapes": [[(1, 4, 1)], [(1, 2, 2)]]},
        {"sigma": torch.zeros(2)},
        {"added": {"pooled": torch.zeros(1, CHANNELS)}},
        {"added": {"pooled": None}},
    ],
)
def test_a_call_with_an_argument_that_is_not_per_sample_is_not_batched(argument: dict[str, Any]) -> None:
    assert group(made(samples=2)) is not None
    assert group(made(samples=2, **argument)) is None


def test_an_output_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(TypeError, match="list"):
        split([torch.zeros(2)], [made(), made()])


def test_the_cost_is_tokens_or_latent_pixels_of_all_samples_and_their_text() -> None:
    assert Call({"hidden_states": torch.zeros(2, 4, 8)}).cost == 8
    assert Call({"hidden_states": torch.zeros(2, 4, 8), "encoder_hidden_states": torch.zeros(2, 3, 8)}).cost == 14
    assert Call({"sample": torch.zeros(3, 8, 4, 5)}).cost == 60
