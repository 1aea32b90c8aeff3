"""Byte-level BPE with DeepSeek-V3's pre-tokenizer: training, tokenizer.json, and encoding the corpus.

    python3 tokenizer.py CORPUS MODEL_DIR [VOCAB_SIZE]

writes MODEL_DIR/tokenizer.json and tokenizer_config.json, and CORPUS/*.bin (uint16 ids; every document is
bos, text, eos), and how many bytes a held-out token has.
"""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import regex

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
SPECIAL = [BOS, EOS, PAD]
ROLES = ["<｜User｜>", "<｜Assistant｜>"]
PATTERNS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]
SPLITTERS = [regex.compile(pattern) for pattern in PATTERNS]
SAMPLE_CHARS = 4_000_000


def byte_characters():
    """GPT-2's printable stand-in for every byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    for n, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + n)
    return table


BYTES = byte_characters()
CHARACTERS = {character: byte for byte, character in BYTES.items()}


def pieces(text):
    """What the three Isolated Splits leave: matches and the text between them, one split after another."""
    parts = [text]
    for splitter in SPLITTERS:
        following = []
        for part in parts:
            end = 0
            for match in splitter.finditer(part):
                if match.start() > end:
                    following.append(part[end : match.start()])
                following.append(match.group())
                end = match.end()
            if end < len(part):
                following.append(part[end:])
        parts = following
    return parts


def characters(piece):
    return "".join(BYTES[byte] for byte in piece.encode())


def train_merges(counts, how_many):
    """The most frequent pair first; ties go to the smaller pair, so that a rerun gives the same merges."""
    words = [list(characters(piece)) for piece in counts]
    weights = list(counts.values())
    pairs, where = Counter(), defaultdict(set)
    for n, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += weights[n]
            where[pair].add(n)
    merges = []
    while len(merges) < how_many:
        top = max(pairs.values())
        best = min(pair for pair, count in pairs.items() if count == top)
        merges.append(best)
        for n in where.pop(best):
            word = words[n]
            for pair in zip(word, word[1:]):
                pairs[pair] -= weights[n]
            words[n] = word = merge(word, best)
            for pair in zip(word, word[1:]):
                pairs[pair] += weights[n]
                where[pair].add(n)
        del pairs[best]
    return merges


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, path):
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        self.vocab = data["model"]["vocab"]
        self.tokens = {n: token for token, n in self.vocab.items()}
        self.special = {n["id"]: n["content"] for n in data["added_tokens"]}
        self.ranks = {tuple(pair): n for n, pair in enumerate(data["model"]["merges"])}
        self.cache = {}

    def encode_piece(self, piece):
        ids = self.cache.get(piece)
        if ids is None:
            word = list(characters(piece))
            while len(word) > 1:
                best = min(zip(word, word[1:]), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
                if best not in self.ranks:
                    break
                word = merge(word, best)
            ids = self.cache[piece] = [self.vocab[token] for token in word]
        return ids

    def encode(self, text):
        return [n for piece in pieces(text) for n in self.encode_piece(piece)]

    def decode(self, ids):
        out = b""
        for n in ids:
            if n in self.special:
                out += self.special[n].encode()
            else:
                out += bytes(CHARACTERS[c] for c in self.tokens[n])
        return out.decode(errors="replace")


def added_token(n, content):
    return {"id": n, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": content in SPECIAL}


def describe(vocab, merges):
    splits = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
              for pattern in PATTERNS]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added_token(vocab[content], content) for content in SPECIAL + ROLES],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [list(pair) for pair in merges]},
    }


CHAT_TEMPLATE = (  # of DeepSeek-V3, without tools
    "{{ bos_token }}{% for turn in messages if turn.role == 'system' %}{{ '' if loop.first else '\\n\\n' }}{{ turn.content }}"
    "{% endfor %}{% for turn in messages if turn.role != 'system' %}{% if turn.role == 'user' %}{{ '<｜User｜>' + turn.content }}"
    "{% else %}{{ '<｜Assistant｜>' + turn.content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")

CONFIG = {
    "add_bos_token": True, "add_eos_token": False, "bos_token": BOS, "eos_token": EOS, "pad_token": PAD,
    "chat_template": CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False, "model_max_length": 4096, "tokenizer_class": "LlamaTokenizerFast",
}


def documents(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def sample(path):
    """Every n-th document, so that each domain weighs the same in the merges."""
    texts = documents(path)
    step = max(1, sum(map(len, texts)) // SAMPLE_CHARS)
    return texts[::step]


def main():
    corpus, model = Path(sys.argv[1]), Path(sys.argv[2])
    vocab_size = int(sys.argv[3]) if len(sys.argv) > 3 else 1536
    counts = Counter()
    for path in sorted(corpus.glob("*.train.jsonl")):
        for text in sample(path):
            counts.update(pieces(text))
    counts = {piece: count for piece, count in counts.items() if count > 2}
    alphabet = SPECIAL + sorted(BYTES.values())
    merges = train_merges(counts, vocab_size - len(alphabet) - len(ROLES))
    tokens = dict.fromkeys(alphabet + [a + b for a, b in merges] + ROLES)  # two merges may spell one token
    vocab = {token: n for n, token in enumerate(tokens)}
    model.mkdir(parents=True, exist_ok=True)
    (model / "tokenizer.json").write_text(
        json.dumps(describe(vocab, merges), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (model / "tokenizer_config.json").write_text(json.dumps(CONFIG, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    tokenizer = Tokenizer(model / "tokenizer.json")
    sizes = {}
    for path in sorted(corpus.glob("*.jsonl")):
        ids, size = [], 0
        for text in documents(path):
            ids += [vocab[BOS], *tokenizer.encode(text), vocab[EOS]]
            size += len(text.encode())
        np.array(ids, dtype=np.uint16).tofile(path.with_suffix(".bin"))
        if path.name.endswith(".held.jsonl"):
            sizes[path.name.split(".")[0]] = size / len(ids)
        print(path.name, len(ids), "tokens", round(size / len(ids), 2), "bytes a token", flush=True)
    (corpus / "bytes_per_token.json").write_text(json.dumps(sizes) + "\n")


if __name__ == "__main__":
    main()
