"""Examples of the OpenAPI document: one real session, as each route shows it."""

from __future__ import annotations

from typing import Any, Final

ID: Final = "ses_5b1f0c6be2d14b5f9f0a8f6a3f4e2d1c"
_PATH: Final = f"/v1/sessions/{ID}"


def _image(path: str, sha256: str) -> dict[str, Any]:
    return {
        "sha256": sha256 * 64,
        "media_type": "image/png",
        "bytes": 412_381,
        "width": 600,
        "height": 400,
        "url": f"{_PATH}/{path}",
    }


def _turn(number: int, instruction: str, author: str, semantic: float, refined: str) -> dict[str, Any]:
    overall = round((semantic * 9.7) ** 0.5, 3)
    candidate = {
        "candidate": 1,
        "status": "critiqued",
        "seed": 1,
        "image": _image(f"turns/{number}/candidates/1/image", str(number)),
        "outside_mask": None,
        "scores": {"semantic": semantic, "quality": 9.7, "overall": overall},
        "reasoning": "warmth b* +11.0 of +11.8 wanted" if number > 1 else "warmth b* +1.5 of +11.8 wanted",
        "answers": [],
        "refined_instruction": refined,
        "error": None,
        "editor_seconds": 0.12,
        "thinker_seconds": 0.1,
    }
    return {"turn": number, "instruction": instruction, "author": author, "candidates": [candidate]}


_INSTRUCTION: Final = "make it feel like golden hour"
_REFINED: Final = "increase the warmth by 31%, tint the highlights orange by 15% and add a soft glow of 15%"

SESSION: Final[dict[str, Any]] = {
    "id": ID,
    "object": "session",
    "status": "succeeded",
    "instruction": _INSTRUCTION,
    "editor": "classical",
    "thinker": "rules",
    "judge": "rules",
    "strategy": "think",
    "review": "never",
    "created_at": 1795488000.1,
    "finished_at": 1795488000.7,
    "deadline_at": 1795488600.1,
    "expires_at": None,
    "queue": None,
    "limits": {
        "max_turns": 5,
        "candidates": 1,
        "semantic_threshold": 8.0,
        "quality_threshold": 8.0,
        "patience": 2,
        "budget_edits": None,
        "budget_editor_s": None,
    },
    "seed": 1,
    "user": None,
    "metadata": {"order": "17"},
    "finish_reason": "satisfied",
    "best": {"turn": 2, "candidate": 1},
    "results": [{"turn": 2, "candidate": 1}],
    "scores": {"semantic": 9.2, "quality": 9.7, "overall": 9.447},
    "revised_prompt": _REFINED,
    "checklist": [],
    "turns": [_turn(1, _INSTRUCTION, "caller", 2.3, _REFINED), _turn(2, _REFINED, "thinker", 9.2, _REFINED)],
    "totals": {
        "turns": 2,
        "edits": 2,
        "editor_seconds": 0.24,
        "thinker_seconds": 0.2,
        "prompt_tokens": 2184,
        "completion_tokens": 432,
        "cached_tokens": 0,
    },
    "error": None,
    "last_event": 10,
    "source": _image("source", "0"),
    "references": [],
    "mask": None,
    "urls": {
        "self": _PATH,
        "events": f"{_PATH}/events",
        "cancel": f"{_PATH}/cancel",
        "feedback": f"{_PATH}/feedback",
        "image": f"{_PATH}/image",
    },
}

SESSIONS: Final[dict[str, Any]] = {"object": "list", "data": [SESSION], "unreadable": [], "next_cursor": None}

IMAGES: Final[dict[str, Any]] = {
    "created": 1795488000,
    "data": [
        {
            "b64_json": "iVBORw0KGgo…",
            "revised_prompt": _REFINED,
            "turn": 2,
            "candidate": 1,
            "scores": SESSION["scores"],
        }
    ],
    "output_format": "png",
    "size": "600x400",
    "quality": "high",
    "background": "opaque",
    "usage": {
        "input_tokens": 2184,
        "output_tokens": 432,
        "total_tokens": 2616,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 2184, "cached_tokens": 0},
        "output_tokens_details": {"image_tokens": 0, "text_tokens": 432},
        "image_count": 2,
    },
    "session_id": ID,
    "scores": SESSION["scores"],
    "turns": 2,
    "edits": 2,
    "finish_reason": "satisfied",
}

EVENTS: Final[str] = (
    'id: 5\nevent: critiqued\ndata: {"seq":5,"type":"critiqued","at":1795488000.3,"turn":1,"candidate":1,'
    '"semantic":2.3,"quality":9.7,"reasoning":"warmth b* +1.5 of +11.8 wanted","instruction":"increase the warmth by 31%"}\n\n'
)

EXPORT: Final[str] = (
    f'{{"object":"session_archive","version":1,"id":"{ID}","tenant":"default","created_at":1795488000.1,'
    '"finished_at":1795488000.7,"events":[{"seq":1,"type":"session_created","at":1795488000.1}]}\n'
)

_JUDGED: Final[dict[str, Any]] = {
    "session_id": ID,
    "sha256": "1" * 64,
    "turn": 1,
    "candidate": 1,
    "editor": "classical",
    "thinker": "rules",
    "judge": "rules",
    "strategy": "think",
}
PREFERENCE: Final[dict[str, Any]] = {
    "id": "prf_9f2d0c6be2d14b5f9f0a8f6a3f4e2d1c",
    "object": "preference",
    "created_at": 1795488100.1,
    "a": _JUDGED,
    "b": {**_JUDGED, "sha256": "2" * 64, "turn": 2},
    "choice": "b",
    "label": "turns",
}
PREFERENCES: Final[dict[str, Any]] = {"object": "list", "data": [PREFERENCE], "next_cursor": None}
PREFERENCE_PAIR: Final[str] = (
    '{"object":"preference_pair","version":1,"id":"prf_9f2d0c6be2d14b5f9f0a8f6a3f4e2d1c","tenant":"default",'
    '"created_at":1795488100.1,"instruction":"make it feel like golden hour","source":"…","a":{},"b":{},"choice":"b"}\n'
)

MODELS: Final[dict[str, Any]] = {
    "object": "list",
    "data": [
        {
            "id": "classical",
            "object": "model",
            "created": 1795488000,
            "owned_by": "editor",
            "ready": True,
            "images": 1,
            "mask": True,
        },
        {
            "id": "gpt-image-1",
            "object": "model",
            "created": 1795488000,
            "owned_by": "editor",
            "ready": True,
            "images": 1,
            "mask": True,
            "alias_of": "classical",
        },
    ],
    "thinkers": [
        {
            "id": "rules",
            "object": "model",
            "created": 1795488000,
            "owned_by": "thinker",
            "ready": True,
            "images": None,
            "mask": None,
        }
    ],
    "judges": [],
}

READY: Final[dict[str, Any]] = {
    "status": "ready",
    "checks": {"redis": True, "blobs": True, "driver": True, "editor:classical": True, "thinker:rules": True},
}

METRICS: Final = 'editthinker_sessions_finished_total{reason="satisfied"} 41.0\n'

ERROR: Final[dict[str, Any]] = {
    "error": {
        "message": "max_turn is not a parameter of this request; did you mean max_turns?",
        "type": "invalid_request_error",
        "param": "max_turn",
        "code": "unknown_parameter",
    }
}

PROVENANCE: Final[dict[str, Any]] = {
    "object": "provenance",
    "says_ai": True,
    "iptc": {
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
        "error": None,
    },
    "c2pa": None,
    "tampered": [],
    "made_here": "yes",
}
