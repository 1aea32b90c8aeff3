"""Builds the corpus of the demo checkpoint from what Debian 12 ships.

    python3 corpus.py OUT        writes OUT/{docs,code,records}.{train,held}.jsonl

docs     the reStructuredText sources of the Python manual   (python3.11-doc,            PSF licence)
code     the Python standard library without its tests       (libpython3.11-stdlib etc., PSF licence)
records  the package index, cut down to a few fields         (apt-cache dumpavail,       facts and one-line descriptions)

A document is held out if the hash of its name says so, so a rerun on the same packages gives the same split.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

DOCS = Path("/usr/share/doc/python3.11/html/_sources")
CODE = Path("/usr/lib/python3.11")
SKIPPED_DOCS = {"changelog.rst.txt"}
# Tests, third-party packages, and files that are tables rather than programs.
SKIPPED_CODE = {"test", "tests", "idle_test", "dist-packages", "encodings", "pydoc_data", "lib2to3", "turtledemo"}
FIELDS = ("Package", "Version", "Architecture", "Section", "Priority", "Depends", "Description")
STANZAS_PER_DOCUMENT = 10
DEPENDS_KEPT = 6
MIN_CHARS, MAX_CHARS = 400, 400_000


def held_out(name):
    """About one document in forty."""
    return hashlib.sha256(name.encode()).digest()[0] < 7


def files(root, pattern, skipped):
    for path in sorted(root.rglob(pattern)):
        relative = path.relative_to(root)
        if path.is_symlink() or skipped & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if MIN_CHARS <= len(text) <= MAX_CHARS:
            yield str(relative), text


def stanza(block):
    fields = {}
    for line in block.splitlines():
        if not line.startswith((" ", "\t")):
            name, _, value = line.partition(": ")
            fields[name] = value
    if "Depends" in fields:
        fields["Depends"] = ", ".join(fields["Depends"].split(", ")[:DEPENDS_KEPT])
    return "".join(f"{name}: {fields[name]}\n" for name in FIELDS if fields.get(name))


def records():
    """Neighbours in the alphabet (libfoo1, libfoo-dev, libfoo-doc) go together, as in a package list."""
    index = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    stanzas = {}
    for block in index.split("\n\n"):
        if block.startswith("Package: "):
            stanzas[block.split("\n", 1)[0][9:]] = block
    names = sorted(stanzas)
    for i in range(0, len(names), STANZAS_PER_DOCUMENT):
        group = names[i : i + STANZAS_PER_DOCUMENT]
        yield group[0], "\n".join(stanza(stanzas[name]) for name in group)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    domains = {
        "docs": files(DOCS, "*.rst.txt", SKIPPED_DOCS),
        "code": files(CODE, "*.py", SKIPPED_CODE),
        "records": records(),
    }
    for domain, documents in domains.items():
        split = {"train": [], "held": []}
        for name, text in documents:
            split["held" if held_out(name) else "train"].append({"name": name, "text": text})
        for part, documents in split.items():
            lines = [json.dumps(document, ensure_ascii=False) + "\n" for document in documents]
            (out / f"{domain}.{part}.jsonl").write_text("".join(lines), encoding="utf-8")
            print(domain, part, len(documents), "documents", sum(len(d["text"]) for d in documents), "characters")


if __name__ == "__main__":
    main()
