"""Picks the held-out samples and prompts that go with the model.

    python3 heldout.py CORPUS MODEL_DIR

writes MODEL_DIR/heldout/{docs,code,records}.jsonl and MODEL_DIR/prompts.jsonl.
"""

import hashlib
import json
import sys
from pathlib import Path

PROMPTS = 22  # of each domain
PIECE, PIECES = 4000, 12  # characters of a held-out sample, and how many of each domain
MAX_TOKENS = 128


def shuffled(documents):
    return sorted(documents, key=lambda document: hashlib.sha256(document["text"].encode()).digest())


def starts(domain, text):
    """Where a prompt may begin: a section, a definition, a record."""
    marks = {"docs": "\n\n.. ", "code": "\n\n    def ", "records": "\n\nPackage: "}
    skip = marks[domain].count("\n")
    at, found = 0, [0] if domain != "code" else []
    while (at := text.find(marks[domain], at)) >= 0:
        found.append(at + skip)
        at += skip
    return found


def cut(domain, text, begin):
    """200 to 600 characters, up to the end of a word (docs), of a line (code), or inside a record."""
    if domain == "docs":
        end = text.rfind(" ", begin + 200, begin + 420)
    elif domain == "code":
        end = text.rfind("\n", begin + 200, begin + 480)
    else:
        record = text.find("\n\nPackage: ", begin + 250)
        end = record + len("\n\nPackage:") if 0 <= record < begin + 580 else -1  # the space belongs to the next token
    return text[begin:end] if end > begin + 150 else None


def prompts(domain, documents):
    """One from each document in turn, then a second from each, and so on."""
    choices = [[p for p in (cut(domain, d["text"], b) for b in starts(domain, d["text"])) if p] for d in documents]
    picked, turn = [], 0
    while len(picked) < PROMPTS:
        for options in choices:
            if turn < len(options) and len(picked) < PROMPTS:
                picked.append(options[turn * 7 % len(options)])
        turn += 1
    return picked


def main():
    corpus, out = Path(sys.argv[1]), Path(sys.argv[2])
    (out / "heldout").mkdir(parents=True, exist_ok=True)
    lines = []
    for domain in ("docs", "code", "records"):
        with open(corpus / f"{domain}.held.jsonl", encoding="utf-8") as file:
            documents = shuffled(json.loads(line) for line in file)
        pieces = [d["text"][i : i + PIECE] for i in range(0, 10 * PIECE, PIECE) for d in documents if len(d["text"]) > i + PIECE // 2]
        with open(out / "heldout" / f"{domain}.jsonl", "w", encoding="utf-8") as file:
            for text in pieces[:PIECES]:
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        for n, prompt in enumerate(prompts(domain, documents), 1):
            lines.append({"id": f"{domain}-{n:02}", "domain": domain, "prompt": prompt, "max_tokens": MAX_TOKENS})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (out / "prompts.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
