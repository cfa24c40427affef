"""Lines of code by package: no blank lines, no comments, no docstrings.

Example:
    python -m benchmarks.code_lines keras_pep tests
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

import click

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@click.command()
@click.argument("folders", nargs=-1, required=True, type=Path)
@click.option("--depth", default=2, show_default=True, help="Of a package.")
def main(folders: tuple[Path, ...], depth: int) -> None:
    """Print the lines of Python and JavaScript in FOLDERS."""
    found: Counter[str] = Counter()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".js"):
                text = path.read_text(encoding="utf-8")
                lines = _python(text) if path.suffix == ".py" else _other(text)
                package = "/".join(path.parts[:depth])
                found[
                    f"{package}{'' if path.suffix == '.py' else ' (js)'}"
                ] += lines
    for package, lines in found.items():
        click.echo(f"{lines:7,} {package}")
    click.echo(f"{found.total():7,} together")


def _python(text: str) -> int:
    """Count lines that have a token which is neither comment nor docstring."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, _DOCUMENTED)
            and ast.get_docstring(node) is not None
        ):
            first = node.body[0]
            last = first.end_lineno or first.lineno
            documentation.update(range(first.lineno, last + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def _other(text: str) -> int:
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("//")
        for line in text.splitlines()
    )


if __name__ == "__main__":
    main()
