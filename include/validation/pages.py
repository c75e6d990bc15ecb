"""Validation results as pages: Great Expectations' renderers find the words, this module writes the HTML.

The library's own HTML view loads styles and scripts from eight other hosts and leaves some of what it shows unescaped.
Its renderers, however, give a document of blocks (string templates, tables, graphs), and views are exchangeable. This
one makes a page that stands alone: no script, no request to anywhere, every text escaped, readable on a telephone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any

from include.validation.engine import import_great_expectations
from include.validation.results import columns_of

# Whoever serves a page should send the same as a header.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
TAGS = {"code", "em", "h5", "h6", "p", "strong"}

NAMED_FAILURES = 6
SEVERITIES = ("hold", "quarantine", "warn")  # worst first

GOOD, WARN, BAD, IDLE = "good", "warn", "bad", "idle"


def page(title: str, body: str) -> str:
    """A whole page.

    :param body: HTML.
    """
    style = (Path(__file__).parent / "pages.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def validation_page(result: dict[str, Any], *, title: str, facts: Iterable[tuple[str, str]], above: str) -> str:
    """The page of one suite result.

    :param result: of ``results.suite_result``.
    :param facts: label and value of what else is to be said about the batch.
    :param above: HTML above the title, such as a link back.
    """
    import_great_expectations()
    own = result["meta"]["labelwheel"]
    skipped = own["skipped"]
    numbers = [
        ("Rows", f"{own['rows']:,}"),
        ("Expectations met", f"{result['statistics']['successful_expectations']}"),
        ("Not met", f"{result['statistics']['unsuccessful_expectations']}"),
        *([("Skipped", f"{len(skipped)}")] if skipped else []),
    ]
    small = [
        *(f"{name} {value}" for name, value in facts),
        f"suite version {own['suite_version'][:12]}",
        f"Great Expectations {result['meta']['great_expectations_version']}",
    ]
    body = [
        above,
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(" · ".join(small))}</p>',
        _verdict(result),
        '<dl class="facts">',
        *(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in numbers),
        "</dl>",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(result["results"], key=_position):
        groups.setdefault(", ".join(columns_of(one["expectation_config"]["kwargs"])), []).append(one)
    for name, ones in sorted(groups.items(), key=lambda group: _position(group[1][0])):
        heading = f"Column <code>{escape(name)}</code>" if name else "The batch as a whole"
        body += [f"<h2>{heading}</h2>", _table(_row(one) for one in ones)]
    if skipped:
        body += ["<h2>Not judged</h2>", _table(_skipped_row(one) for one in skipped)]
    return page(title, "\n".join(body))


def _position(one: dict[str, Any]) -> int:
    return int(one["expectation_config"]["meta"]["position"])


def _verdict(result: dict[str, Any]) -> str:
    """What became of the batch, and which expectations that was because of: the worst ones first."""
    kind, sentence = verdict_of(result)
    failed = [one for one in result["results"] if not one["success"]]
    failed.sort(key=lambda one: (SEVERITIES.index(one["expectation_config"]["meta"]["severity"]), _position(one)))
    links = [f'<a href="#e{_position(one)}">{escape(_name(one["expectation_config"]))}</a>' for one in failed]
    more = f" and {len(links) - NAMED_FAILURES} more" if len(links) > NAMED_FAILURES else ""
    because = f'<p class="soft">Because of {", ".join(links[:NAMED_FAILURES])}{more}.</p>' if links else ""
    return f'<div class="verdict {kind}">{escape(sentence)}</div>{because}'


def _name(config: dict[str, Any]) -> str:
    return f"{config['type']}({', '.join(columns_of(config['kwargs']))})".removesuffix("()")


def verdict_of(result: dict[str, Any]) -> tuple[str, str]:
    """How a result is coloured, and what it means in one sentence."""
    failed = [one["expectation_config"]["meta"] for one in result["results"] if not one["success"]]
    if result["meta"]["labelwheel"]["hold"]:
        return BAD, "Held back: an expectation that must be met was not."
    if not failed:
        return GOOD, "Passed: every expectation that was judged is met."
    if all(one["severity"] == "warn" for one in failed):
        return WARN, f"Passed with warnings: {len(failed)} expectations are not met; none of them rejects data."
    return WARN, "Passed in part: rows that break an expectation were rejected, the others went on."


# ---------------------------------------------------------------- rows


def _table(rows: Iterable[str]) -> str:
    head = "<tr><th></th><th>Expectation</th><th>Observed</th><th>Effect</th></tr>"
    return f"<table>\n{head}\n" + "\n".join(rows) + "\n</table>"


def _row(one: dict[str, Any]) -> str:
    config = one["expectation_config"]
    statement, observed = _statement(one)
    notes = config.get("notes") or (config.get("meta") or {}).get("notes") or []
    notes = [notes] if isinstance(notes, str) else notes.get("content", []) if isinstance(notes, dict) else notes
    remarks = [config["description"]] if config.get("description") else []
    said = "".join(f'<p class="notes">{escape(str(text))}</p>' for text in [*remarks, *notes])
    kind, mark, effect = _effect(one)
    return (
        f'<tr id="e{_position(one)}"><td class="mark {kind}">{mark}</td>'
        f'<td>{said}{statement}</td><td class="observed">{observed}</td><td class="effect {kind}">{effect}</td></tr>'
    )


def _skipped_row(one: dict[str, Any]) -> str:
    name = f"{one['expectation']}({one['column'] or ''})".removesuffix("()")
    return (
        f'<tr id="e{int(one["position"])}"><td class="mark {IDLE}">–</td><td><code>{escape(name)}</code></td>'
        f'<td class="observed">{escape(one["why"].removeprefix("skipped: "))}</td>'
        f'<td class="effect {IDLE}">none</td></tr>'
    )


def _effect(one: dict[str, Any]) -> tuple[str, str, str]:
    """Colour, mark and words for what an expectation did to the data."""
    severity = one["expectation_config"]["meta"]["severity"]
    count = one["result"].get("unexpected_count")
    if one["success"]:
        return GOOD, "✓", f"none ({count:,} rows tolerated)" if count else "none"
    if severity == "hold":
        return BAD, "✗", "held the whole batch back"
    if severity == "warn":
        return WARN, "!", "a warning only"
    return BAD, "✗", f"{count:,} rows to quarantine"


def _statement(one: dict[str, Any]) -> tuple[str, str]:
    """What Great Expectations says was expected, and what was observed."""
    from great_expectations.core.expectation_validation_result import expectationValidationResultSchema
    from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer

    # It logs a traceback wherever it cannot word a detail, and goes on without it
    package = "great_expectations.render.renderer.content_block.validation_results_table_content_block"
    logging.getLogger(package).setLevel(logging.CRITICAL)
    rendered = ValidationResultsTableContentBlockRenderer.render([expectationValidationResultSchema.load(one)])
    [(_, statement, observed)] = rendered.to_json_dict()["table"]
    return html_of(statement), html_of(observed)


# ---------------------------------------------------------------- blocks


def html_of(block: Any) -> str:
    """HTML of one block of a rendered document, or of several."""
    if isinstance(block, list):
        return "".join(f"<div>{html_of(one)}</div>" for one in block)
    if not isinstance(block, dict):
        return "" if block is None else escape(str(block))
    return _views().get(block.get("content_block_type", ""), _anything)(block)


@cache
def _views() -> dict[str, Callable[[dict[str, Any]], str]]:
    return {
        "string_template": _string_template,
        "table": _block_table,
        "graph": _graph,
        "collapse": _collapse,
        "header": lambda block: html_of([block[name] for name in ("header", "subheader") if name in block]),
        "bullet_list": lambda block: _list(block["bullet_list"]),
        "value_list": lambda block: _list(block["value_list"]),
        "text": lambda block: html_of(block["text"]),
        "markdown": lambda block: f"<pre>{escape(str(block['markdown']))}</pre>",
        "content_block_container": lambda block: html_of(block["content_blocks"]),
    }


def _anything(block: dict[str, Any]) -> str:
    return f"<pre>{escape(str(block))}</pre>"


def _list(items: list[Any]) -> str:
    return "<ul>" + "".join(f"<li>{html_of(one)}</li>" for one in items) + "</ul>"


def _string_template(block: dict[str, Any]) -> str:
    """Text with parameters, each put in once and escaped; whatever looks like a parameter inside one stays text."""
    template = block["string_template"]
    params = template.get("params") or {}
    chips = "default" in (template.get("styling") or {})

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in params:
            return escape(match[0])
        if name == "formatted_json":  # the one parameter that comes as HTML
            return f"<pre>{escape(unescape(re.sub('</?pre>', '', str(params[name]))))}</pre>"
        text = "null" if params[name] is None else escape(str(params[name]))
        return f"<code>{text}</code>" if chips else text

    text, end = "", 0
    source = (template.get("template") or "").strip()
    for match in re.finditer(r"\$(?:(\w+)|\{(\w+)\})", source):
        text += escape(source[end : match.start()]) + value(match)
        end = match.end()
    text = (text + escape(source[end:])).replace("\n", "<br>")
    tag = template.get("tag")
    return f"<{tag}>{text}</{tag}>" if tag in TAGS and text else text


def _block_table(block: dict[str, Any]) -> str:
    """A table inside a statement, folded: usually the unexpected values."""
    rows = [[html_of(one) for one in row] for row in block["table"]]
    rows = [row for row in rows if any(row)]
    if not rows:
        return ""
    names = [html_of(one) for one in block.get("header_row") or []]
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>" if names else ""
    body = "".join("<tr>" + "".join(f"<td>{one}</td>" for one in row) + "</tr>" for row in rows)
    title = html_of(block.get("header")) or (names[0] if len(names) == 1 else "Details")
    return f"<details><summary>{title} ({len(rows)})</summary><table>{head}{body}</table></details>"


def _collapse(block: dict[str, Any]) -> str:
    inside = html_of(block["collapse"])
    if not re.sub(r"<[^>]*>", "", inside).strip():
        return ""
    return f"<details><summary>{html_of(block.get('collapse_toggle_link') or 'More')}</summary>{inside}</details>"


def _graph(block: dict[str, Any]) -> str:
    """The data of a Vega bar chart as a table with bars."""
    rows: list[dict[str, Any]] = next(iter((block["graph"].get("datasets") or {}).values()), [])
    drawn = []
    for row in rows:
        share = row.get("fraction")
        width = min(max(float(share), 0.0), 1.0) * 100 if isinstance(share, int | float) else 0.0
        label = row["values"] if "values" in row else f"{row.get('bin_min')} … {row.get('bin_max')}"
        drawn.append(
            f'<tr><td>{escape(str(label))}</td><td class="number">{width:.1f} %</td>'
            f'<td><span class="bar" style="width:{width:.1f}px"></span></td></tr>'
        )
    return f"<table>{''.join(drawn)}</table>" if drawn else ""
