"""Writes files from the table of operations: the declarations in ``tasks/``, the page
``docs/operations.md``, and the names in ``fermata_client``.

``make reference`` calls it; a test fails if one of the files is not current.
"""

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from worker.core.batch.flows import FLOWS, NamedFlow
from worker.core.contract import task_name
from worker.core.providers.aimusic.operations import OPERATIONS, Mode, Operation, find
from worker.core.providers.aimusic.signatures import Parameter, parameters

_WIDTH: Final = 96
_CLIP: Final = "26c9c592-0566-46cf-bb71-91ac1deaa7b5"

_HEAD: Final = '''"""{title} operations; `make reference` writes this file from their table.

Every task takes ``source`` first: nothing, a clip id, a clip, the result of the task before it in
a chain, or a list of these. ``pick`` chooses the clip of a result (index from 0, or clip id; by
default the first that succeeded), and ``extra`` passes fields to the provider unchecked.

Every task returns ``{{"job_id", "operation", "provider_task_id", "clips", "data", "partial"}}``
and raises one of :mod:`worker.core.errors`.
"""

{imports}
'''

_MODE: Final = {
    Mode.WEBHOOK: "parks until the webhook",
    Mode.POLLED: "parks, and is polled: it takes no webhook",
    Mode.DIRECT: "answers at once, or is asked again",
}


def task_modules() -> dict[str, str]:
    """Write the modules of ``tasks/``: file name -> source."""
    families = sorted({operation.family for operation in OPERATIONS.values()})
    return {f"{family}.py": _module(family) for family in families}


def _module(family: str) -> str:
    rows = [operation for operation in OPERATIONS.values() if operation.family == family]
    body = "\n\n".join(_declaration(operation) for operation in rows)
    return _HEAD.format(title=family.capitalize(), imports=_imports(body)) + "\n\n" + body


def _imports(body: str) -> str:
    typing = "from typing import Any, Literal" if "Literal[" in body else "from typing import Any"
    return (
        f"{typing}\n\n"
        "from worker.app import app\n"
        "from worker.app.job_task import provider_task\n"
        "from worker.core.job.models import JSONObject\n"
        "from worker.core.providers.aimusic.sources import Pick, Source"
    )


def _declaration(operation: Operation) -> str:
    name = operation.name.partition(".")[2]
    lines = [f'@provider_task(app, "{operation.name}")', f"def {name}("]
    lines += ["    source: Source = None,", "    *,"]
    lines += [f"    {_spelled(parameter)}," for parameter in parameters(operation)]
    lines += ["    pick: Pick = None,", "    extra: dict[str, Any] | None = None,"]
    lines += [") -> JSONObject:", *_docstring(operation), ""]
    return "\n".join(lines)


def _spelled(parameter: Parameter) -> str:
    spelled = f"{parameter.name}: {parameter.annotation}"
    if parameter.required:
        return spelled
    default = f'"{parameter.default}"' if isinstance(parameter.default, str) else parameter.default
    return f"{spelled} = {default}"


def _docstring(operation: Operation) -> Iterator[str]:
    yield from _wrapped('"""' + operation.summary, "    ", "    ")
    yield ""
    yield from _wrapped(_facts(operation), "    ", "    ")
    described = parameters(operation)
    if described:
        yield ""
        yield "    Args:"
    for parameter in described:
        yield from _wrapped(f"{parameter.name}: {_said(parameter)}", " " * 8, " " * 12)
    yield ""
    yield from ("    Example::", "")
    yield from textwrap.wrap(
        _python_example(operation), _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield '    """'


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    plain = text.replace("`", "``")
    return textwrap.wrap(
        plain, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _said(parameter: Parameter) -> str:
    parts = [parameter.doc] + ([parameter.limits] if parameter.limits else [])
    return "; ".join(part for part in parts if part)


def _facts(operation: Operation) -> str:
    plural = "" if operation.credits == 1 else "s"
    price = f"{operation.credits:g} credit{plural}" if operation.credits else "Free"
    retired = f" Retired by the provider: use `{operation.retired}`." if operation.retired else ""
    return f"{price}; {_MODE[operation.mode]}.{retired}"


# -- the reference page


def page() -> str:
    """Write ``docs/operations.md``."""
    rows = "\n".join(
        f"| [`{o.name}`](#{o.name.replace('.', '')}) | {o.mode} | {o.credits:g} | {_first(o)} |"
        for o in OPERATIONS.values()
    )
    sections = "\n".join(_section(operation) for operation in OPERATIONS.values())
    return f"""# Operations

`make reference` writes this page from the table of operations. Prices are the provider's list
prices of September 2026; resellers have others. Fermata itself bills nothing.

Every task takes `source` first (nothing, a clip id, a clip, the result of the task before it, or a
list of these), `pick` (which clip of the result: an index from 0 or a clip id) and `extra` (fields
for the provider that Fermata does not check). Every result has the shape
`{{"job_id", "operation", "provider_task_id", "clips", "data", "partial"}}`. Beside the errors named
below, every task can raise `InvalidRequest` (before anything is sent), `RequestRefused`,
`OutOfCredits` and `UnexpectedResponse`.

| operation | mode | credits | |
|---|---|---|---|
{rows}

{sections}"""


def _first(operation: Operation) -> str:
    return operation.summary.partition(";")[0].partition(". ")[0].rstrip(".")


def _section(operation: Operation) -> str:
    lines = [f"## {operation.name}", "", operation.summary, "", _facts(operation), ""]
    lines += [f"Task `{task_name(operation.name)}` · `{operation.method} {operation.path}` · "
              f"also raises {_errors(operation)}", ""]  # fmt: skip
    described = parameters(operation)
    if described:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        lines += [_row(parameter) for parameter in described]
        lines.append("")
    lines += ["```python", _python_example(operation), "```", ""]
    lines += ["```console", f"$ {_console_example(operation)}", "```", ""]
    return "\n".join(lines)


def _row(parameter: Parameter) -> str:
    default = "required" if parameter.required else f"`{parameter.default}`"
    default = "" if default == "`None`" else default
    type_ = parameter.type.replace("|", "\\|")
    return f"| `{parameter.name}` | `{type_}` | {default} | {_said(parameter)} |"


def _errors(operation: Operation) -> str:
    raised = ["`SubmissionUnconfirmed`"] if not operation.repeatable else []
    raised += ["`TaskFailed`", "`DeadlineExceeded`"]
    return ", ".join(raised + (["`OperationRetired`"] if operation.retired else []))


def example(operation: Operation) -> dict[str, object]:
    """Make up the parameters of a plain call, without the source."""
    given: dict[str, object] = dict(_EXAMPLES.get(operation.name, {}))
    for parameter in parameters(operation):
        if parameter.required and parameter.name not in given:
            given[parameter.name] = _made_up(parameter)
    return given


def _made_up(parameter: Parameter) -> object:
    if parameter.type == "bool":
        return False
    if parameter.type == "float":
        return 30 if parameter.name.endswith(("end_s", "end_time")) else 10
    return f"https://example.com/{parameter.name}.mp3" if "url" in parameter.name else "…"


def _source(operation: Operation) -> list[str]:
    if operation.clip_field is None:
        return []
    return [_CLIP] if operation.clips == 1 else [_CLIP, _CLIP.replace("26c9", "37da")]


def _python_example(operation: Operation) -> str:
    clips = _source(operation)
    first = [f'"{clips[0]}"'] if len(clips) == 1 else [str(clips).replace("'", '"')] * bool(clips)
    spelled = [f"{name}={_literal(value)}" for name, value in example(operation).items()]
    return f"{operation.name.partition('.')[2]}.delay({', '.join(first + spelled)})"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _console_example(operation: Operation) -> str:
    words = ["fermata submit", operation.name]
    clips = _source(operation)
    if len(clips) == 1:
        words += ["--source", clips[0]]
    elif clips:
        words.append(f"""-p {operation.clip_field}='{str(clips).replace("'", '"')}'""")
    for name, value in example(operation).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        words.append(f"-p {name}={text}" if " " not in text else f'-p {name}="{text}"')
    return " ".join(words)


_EXAMPLES: Final[dict[str, dict[str, object]]] = {
    "sonic.create_music": {
        "custom_mode": False,
        "gpt_description_prompt": "a calm piano piece",
    },
    "sonic.persona_music": {
        "persona_id": "0b7b9a52-3c39-4d6e-9f6c-6f0a0f7c2d11",
        "custom_mode": True,
        "prompt": "[Verse] Hold the note",
    },
    "sonic.add_vocals": {"prompt": "[Verse] Hold the note"},
    "sonic.create_persona": {"name": "Ada"},
    "sonic.upsample_tags": {"tags": "waltz"},
    "sonic.remaster": {"mv": "chirp-v5", "variation_category": "subtle"},
    "lyrics.generate": {"description": "a note that is held"},
    "producer.create_music": {"sound": "slow waltz, small band"},
    "producer.make_lyrics": {"prompt": "a note that is held"},
    "riffusion.create_music": {"custom_mode": False, "prompt": "a calm piano piece"},
    "riffusion.extend": {"lyrics": "Hold the note", "sound": "slow waltz"},
    "riffusion.swap_sound": {"lyrics": "Hold the note", "sound": "for a brass band"},
    "riffusion.swap_vocals": {"lyrics": "Hold the note", "sound": "a low voice"},
    "nuro.create_vocal": {"lyrics": "Hold the note"},
    "nuro.create_instrumental": {"description": "a calm piano piece"},
}


def client_operations() -> str:
    """Write the names of operations and flows for the client, with the plan of each flow."""
    flows = "\n".join(f'    "{name}": {_client_plan(flow)},' for name, flow in FLOWS.items())
    return f'''"""The names of operations and flows; `make reference` writes this file."""

from typing import Final, Literal, get_args

from fermata_client.flows import Plan

OperationName = Literal[
{_listed(OPERATIONS)}
]
FlowName = Literal[
{_listed(FLOWS)}
]

OPERATIONS: Final[frozenset[str]] = frozenset(get_args(OperationName))

FLOWS: Final[dict[FlowName, Plan]] = {{
{flows}
}}
'''


def _listed(names: Iterable[str]) -> str:
    return "\n".join(f'    "{name}",' for name in names)


def _client_plan(flow: NamedFlow) -> str:
    given: dict[str, object] = {"then": flow.then, "branches": flow.branches, "preset": flow.preset}
    spelled = [f"{name}={value!r}" for name, value in given.items() if value]
    if flow.then:
        names = ", ".join(map(repr, sorted(find(flow.operation).schema().fields)))
        spelled.append(f"takes=frozenset({{{names}}})")
    return f"Plan({', '.join([repr(flow.operation), *spelled])})"


def write(root: Path) -> None:
    """Write the modules and the page below a source tree."""
    (root / "fermata_client" / "operations.py").write_text(client_operations(), "utf-8")
    for name, source in task_modules().items():
        (root / "tasks" / name).write_text(source, "utf-8")
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "operations.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent.parent)
