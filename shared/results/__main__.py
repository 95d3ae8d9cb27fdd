"""`python -m shared.results`: documented rows beside measured rows, printed, kept in a Markdown file, or as a page."""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from shared.cli.interpreter import unfit

if unfit((3, 7), "python -m pip install numpy"):
    sys.exit(2)

from shared.checkpoint.folder import FOLDER
from shared.cli.entry_point import prepare_streams
from shared.cli.parser import Parser, one_of
from shared.errors import UsageError
from shared.results.documented import Row
from shared.results.events import events_csv
from shared.results.language import LANGUAGES
from shared.results.model_card import write_card
from shared.results.page.document import page
from shared.results.page.run_files import to_publish
from shared.results.record import publish, read_record
from shared.results.rows import Record, has_row, rows
from shared.results.tables import FORMATS, render
from shared.system.atomic_files import write_atomic
from shared.system.paths import expanded
from shared.system.signals import reader_gone

COMMITTED = Path(__file__).resolve().parents[2] / "results"
_BLOCK = re.compile(r"(<!-- results:begin(?: lang=(?P<lang>[\w-]+))? -->\n).*?(<!-- results:end -->)", re.DOTALL)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command. Exit status: 0; 1 if `--check` found a difference; 2 for a user's mistake; 141 for SIGPIPE."""
    prepare_streams()
    try:
        status = _run(_parser().parse_args(arguments))
        sys.stdout.flush()  # here, where a BrokenPipeError can be handled, and not at Python's exit
        return status
    except BrokenPipeError:
        return reader_gone(sys.stdout).exit_status
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(prog="python -m shared.results", description=__doc__)
    add = parser.add_argument
    runs = "a run's folder, a result.json, or a folder of them (default: the records committed under results/)"
    add("runs", nargs="*", type=expanded, metavar="RUN", help=runs)
    formats = f"{', '.join(FORMATS)}, html: one page with curves and diagrams, events: the logged steps and evaluations"
    formats += " of the runs as CSV (default: text)"
    add("--format", type=one_of(*FORMATS, "html", "events"), default="text", help=formats)
    languages = f"of text, Markdown and the page: {' or '.join(LANGUAGES)}, Chinese (default: en)"
    add("--lang", type=one_of(*LANGUAGES), metavar="LANGUAGE", help=languages)
    add("--output", type=expanded, metavar="FILE", help="write there, whole or not at all")
    update = (
        "replace the text between <!-- results:begin --> and <!-- results:end --> in these files; "
        "<!-- results:begin lang=zh --> gives them in Chinese"
    )
    add("--update-readme", nargs="+", type=expanded, metavar="FILE", help=update)
    add("--publish", action="store_true", help="copy the named runs' records to results/, with curves and examples")
    card = "with --publish: write a model card for the Hugging Face Hub into RUN/model-card instead; sends nothing"
    add("--model-card", action="store_true", help=card)
    check = "exit 1 if --update-readme would change one of these"
    add("--check", nargs="+", type=expanded, metavar="FILE", help=check)
    return parser


def _run(options: argparse.Namespace) -> int:
    _check_language(options)
    _check_files(options)
    if options.model_card and not options.publish:
        raise UsageError("--model-card is written of a run; give --publish RUN --model-card")
    if options.format == "events":
        text, notes = events_csv(options.runs)
        sys.stderr.writelines(f"{note}\n" for note in notes)
        _put(options.output, text)
        return 0
    records = find_records(options.runs)
    if options.publish:
        if not options.runs:
            raise UsageError("--publish needs the runs to publish; name their folders")
        if options.model_card:
            sys.stdout.writelines(f"{line}\n" for path in records for line in write_card(path))
            return 0
        if (COMMITTED.parent / "COMMIT").is_file():
            raise UsageError("--publish copies into the results/ of a checkout, and this is a package; run it in one")
        for path in records:
            record, missing = to_publish(path)
            print(publish(record, COMMITTED))
            sys.stderr.writelines(f"note: {path}: {sentence}\n" for sentence in missing)
        return 0
    read = [read_record(path) for path in records]
    table_rows = rows(read)
    for file in map(Path, options.update_readme or []):
        before, after = _with_block(file, table_rows)
        if before != after:
            _write(file, after)
    if options.check:
        return max([_differs(Path(file), table_rows) for file in options.check])
    if not options.update_readme:
        if options.format != "html":
            _name_those_without_a_row(records, read)
        language = options.lang or "en"
        html = options.format == "html"
        text = page(records, language) if html else render(table_rows, options.format, language)
        _put(options.output, text)
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """Raises UsageError where an option would have no effect beside another."""
    given = {name for name in ("publish", "update_readme", "check", "output") if getattr(options, name)}
    given |= {"format"} if options.format != "text" else set()
    printed = ("output", "format")
    beside = {"publish": ("update_readme", "check", *printed), "update_readme": printed, "check": printed}
    for name, others in beside.items():
        for other in others:
            if {name, other} <= given:
                one, two = (f"--{each.replace('_', '-')}" for each in (name, other))
                raise UsageError(f"{one} does not go with {two}; give two commands, or leave {two} out")


def _check_language(options: argparse.Namespace) -> None:
    """Raises UsageError where --lang would have no effect, or where its characters cannot be printed."""
    if options.lang and options.format in ("csv", "json", "events"):
        raise UsageError(f"--lang is not for {options.format}, whose words are for programs; leave one of them out")
    if options.lang and (options.update_readme or options.check or options.publish):
        what = "--lang is for what is printed; a file says lang=zh in its <!-- results:begin --> line"
        raise UsageError(f"{what}; leave --lang out")
    try:
        LANGUAGES[options.lang or "en"]("row").encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as error:
        if options.output is None:
            advice = "set PYTHONIOENCODING=utf-8, or write a file with --output"
            raise UsageError(f"the terminal's encoding, {error.encoding}, has no Chinese; {advice}") from error


def _name_those_without_a_row(paths: Sequence[Path], records: Sequence[Record]) -> None:
    for path, record in zip(paths, records):
        if not has_row(record):
            what = f"{path} is of the mode {record['mode']}, which has no accuracy and no throughput, so no row"
            print(f"note: {what}; --format html shows it", file=sys.stderr)


def find_records(runs: Sequence[str]) -> List[Path]:
    """The record files that the arguments name, each once, in a fixed order. Raises UsageError where there is none."""
    if not runs:
        return sorted(COMMITTED.rglob("*.json"))
    found: List[Path] = []
    for path in map(Path, runs):
        files = _in_folder(path) if path.is_dir() else [path] if path.is_file() else []
        if not files and path.is_dir() and any(path.rglob("config.json")):
            run = min(path.rglob("config.json")).parent
            advice = f"finish it with --resume {run}" if (run / FOLDER).is_dir() else "let it end, or run it again"
            raise UsageError(f"the run {run} has no result.json, so it has not ended; {advice}")
        if not files:
            raise UsageError(f"no record at {path}; name a run's folder or the result.json in it")
        found += files
    return list(dict.fromkeys(path.resolve() for path in found))


def _in_folder(folder: Path) -> List[Path]:
    """The folder's own record, those below it, or all JSON files of a folder of records alone, as results/ is."""
    if (folder / "result.json").is_file():
        return [folder / "result.json"]
    if (folder / "config.json").is_file():  # an unfinished run, with earlier ones below it
        return []
    has_runs = any(path.name in ("config.json", "state.json") for path in folder.rglob("*.json"))
    return sorted(folder.rglob("result.json")) or ([] if has_runs else sorted(folder.rglob("[!.]*.json")))


def _with_block(path: Path, table_rows: Sequence[Row]) -> Tuple[str, str]:
    """The text of a Markdown file, and the same with up-to-date results blocks."""

    def updated(block: "re.Match[str]") -> str:  # which Python 3.7 cannot evaluate
        language = block.group("lang") or "en"
        if language not in LANGUAGES:
            raise UsageError(f"{path}: unknown lang={language} in its results block; known are {', '.join(LANGUAGES)}")
        return f"{block.group(1)}\n{render(table_rows, 'markdown', language)}\n{block.group(3)}"

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path} ({reason}); name a Markdown file") from error
    after, blocks = _BLOCK.subn(updated, text)
    if not blocks:
        advice = "put <!-- results:begin --> and <!-- results:end --> on lines of their own where the tables belong"
        raise UsageError(f"{path} has no results block; {advice}")
    return text, after


def _put(output: Optional[str], text: str) -> None:
    if output is None:
        sys.stdout.write(text)
    else:
        _write(Path(output), text)


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror or error}); check its permissions") from error


def _differs(path: Path, table_rows: Sequence[Row]) -> int:
    text, updated = _with_block(path, table_rows)
    if text == updated:
        return 0
    lines = (text.splitlines(True), updated.splitlines(True))
    sys.stdout.writelines(difflib.unified_diff(*lines, str(path), "as measured", n=0))
    advice = f"run python -m shared.results --update-readme {path}"
    print(f"{path}: its results block is out of date; {advice}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
