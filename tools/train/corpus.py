"""Builds the corpus of the demo checkpoint from what Debian 12 packages.

    python3 corpus.py OUT        writes OUT/{docs,code,records}.{train,held}.jsonl

docs     the reStructuredText sources of manuals
code     Python packages without their tests
records  the package index, cut down to a few fields         (apt-cache dumpavail)

Packages are fetched by `apt-get download` into OUT/packages and unpacked there, not installed; a folder that is there already is
taken as it is. models/demo/README.md has the licences. A document is held out if the hash of its name says so, so a rerun on the
same packages gives the same split.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

DOCS = """python3.11-doc python-django-doc python-scipy-doc python-sqlalchemy-doc python-pandas-doc python-sympy-doc
    python-cryptography-doc cmake-data llvm-14-doc clang-14-doc sphinx-doc python-dask-doc python-xarray-doc nova-doc neutron-doc
    keystone-doc cinder-doc glance-doc swift-doc heat-doc ironic-doc python-openstacksdk-doc python-tornado-doc python-celery-doc
    python-pytest-doc python-ipython-doc cython-doc python-setuptools-doc python-werkzeug-doc python-jinja2-doc""".split()
CODE = """libpython3.11-minimal libpython3.11-stdlib python3-django python3-numpy python3-scipy python3-pandas python3-sympy python3-matplotlib
    python3-sqlalchemy python3-twisted python3-networkx python3-sklearn python3-jinja2 python3-werkzeug python3-flask
    python3-requests python3-aiohttp python3-cryptography python3-docutils python3-sphinx python3-pygments python3-setuptools
    python3-pip python3-nova python3-neutron python3-keystone python3-cinder python3-glance python3-swift python3-heat
    python3-ironic python3-astropy python3-statsmodels python3-xarray python3-dask python3-openstacksdk python3-tornado
    python3-ipython python3-pytest python3-celery python3-kombu python3-libcloud python3-nltk python3-octavia python3-manila
    python3-designate python3-numba python3-trio python3-click python3-rich python3-pydantic python3-fastapi python3-httpx
    python3-starlette""".split()
# Tests, third-party packages, and files that are tables rather than programs.
SKIPPED = {"changelog.rst.txt", "test", "tests", "testing", "idle_test", "encodings", "pydoc_data", "lib2to3", "turtledemo",
           "_vendor", "vendor", "vendored", "locale", "releasenotes", "unicode_tables"}
FIELDS = ("Package", "Version", "Architecture", "Section", "Priority", "Depends", "Description")
STANZAS_PER_DOCUMENT = 10
DEPENDS_KEPT = 6
MIN_CHARS, MAX_CHARS, PACKAGE_CHARS = 400, 400_000, 3_000_000


def held_out(name):
    """About one document in forty."""
    return hashlib.sha256(name.encode()).digest()[0] < 7


def fetch(packages, folder):
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not (folder / package).exists()]
    if missing:
        subprocess.run(["apt-get", "download", "-q", *missing], cwd=folder, check=True)
    for package in missing:
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)
        archive.unlink()


def files(packages, folder, patterns):
    """(name, text) of the files, each text once, and of no package more than PACKAGE_CHARS in the order of their names' hashes."""
    fetch(packages, folder)
    seen = set()
    for package in packages:
        paths = [path for pattern in patterns for path in (folder / package).rglob(pattern)]
        names = {f"{package}/{path.relative_to(folder / package)}": path for path in paths if not path.is_symlink()}
        size = 0
        for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
            try:
                text = "" if SKIPPED & set(name.split("/")) else names[name].read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if MIN_CHARS <= len(text) <= MAX_CHARS and size + len(text) <= PACKAGE_CHARS and text not in seen:
                seen.add(text)
                size += len(text)
                yield name, text


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
        "docs": files(DOCS, out / "packages", ("*.rst.txt", "*.rst")),
        "code": files(CODE, out / "packages", ("*.py",)),
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
