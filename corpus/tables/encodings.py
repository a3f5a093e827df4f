"""Text encodings: given by name, by a byte-order mark, UTF-8, or detected from the bytes.

Bytes that are no UTF-8 are classified in two ways. East Asian and Cyrillic encodings by the likelihood of the
text: their everyday characters lie in separate blocks, so that a few letters decide, where charset-normalizer
takes Korean for Chinese. Latin, Greek and Turkish ones by the languages that charset-normalizer finds.
Windows-1252 is the default.
"""

import codecs
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from encodings.aliases import aliases
from functools import lru_cache

import charset_normalizer

from corpus.errors import UsageError
from corpus.redaction import redacted

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ISO_2022 = {
    b"\x1b$B": "iso2022_jp",
    b"\x1b$@": "iso2022_jp",
    b"\x1b(J": "iso2022_jp",
    b"\x1b$)C": "iso2022_kr",
}
_FALLBACK = "cp1252"
_SAMPLE = 16_384  # bytes of the lines that are not ASCII; more do not change the result
_HEAD = 4_096

_ASCII_COST = 3.3  # nats: information of a letter of a text
_MARK_COST = 6.0
_LONE_COST = 2.3  # one word in ten of a Cyrillic text is a letter alone
_LONE_CYRILLIC = re.compile(r"(?<!\w)[\u0400-\u045f](?!\w)")
_ODD_COST = 14.0
_INSIDE_COST = 5.0  # an East Asian letter beside a small Latin one

# The code page that letter costs choose → others of its script: their languages, and the least coherence
# at which charset-normalizer's word is taken.
_GREEK = (frozenset({"Greek"}), 0.3)
_BY_LANGUAGE: Mapping[str, Mapping[str, tuple[frozenset[str], float]]] = {
    "cp1252": {
        "cp1250": (
            frozenset({"Polish", "Czech", "Slovak", "Hungarian", "Slovene", "Croatian", "Romanian"}), 0.3,
        ),
        "cp1253": _GREEK,
        "cp1254": (frozenset({"Turkish"}), 0.3),
    },
    "cp1251": {
        "koi8_r": (frozenset({"Russian", "Ukrainian", "Bulgarian", "Serbian"}), 0.3),
        "cp1253": _GREEK,
    },
}  # fmt: skip

# Files under the name of a standard are as a rule in its extension by Windows.
_LARGER = {"shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030"}
_NAMES = {
    "cp932": "Shift-JIS (cp932)", "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP", "gb18030": "GB18030 (GBK)",
    "big5": "Big5", "cp949": "EUC-KR (cp949)", "iso2022_kr": "ISO-2022-KR", "cp1252": "Windows-1252",
    "cp1251": "Windows-1251", "cp1250": "Windows-1250", "cp1253": "Windows-1253", "cp1254": "Windows-1254",
    "utf-8": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32": "UTF-32",
    "latin-1": "Latin-1", "koi8_r": "KOI8-R", "cp1255": "Windows-1255", "cp1256": "Windows-1256",
    "cp874": "Windows-874", "mac_roman": "Mac Roman",
}  # fmt: skip


@redacted
@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text.

    `encoding`: Python's name of the encoding used.
    `stray_lines`: lines (from 1) with bytes that do not fit it. Each such byte is read as Windows-1252: two
    names that differ in one stay different.
    """

    text: str
    encoding: str
    stray_lines: tuple[int, ...] = ()

    @property
    def encoding_name(self) -> str:
        """The encoding's customary name, for messages."""
        return _NAMES.get(self.encoding, self.encoding)


def decode(content: bytes, encoding: str | None = None) -> Decoded:
    """Decode a file's bytes; this never fails.

    Args:
        content: the bytes, with or without a byte-order mark.
        encoding: as `parse_encoding` returns it; None detects it.
    """
    if encoding is not None:
        return _decode_as(content, encoding)
    for mark, marked in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _decode_as(content, marked)
    wide = _wide(content)
    if wide is not None:
        return _decode_as(content, wide)
    for escape, escaped in _ISO_2022.items():
        if escape in content:
            return _decode_as(content, escaped)
    try:
        return Decoded(content.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    return _decode_as(content, "utf-8" if _is_mostly_utf8(content) else _detect(content))


def parse_encoding(name: str) -> str:
    """Return Python's name of an encoding; for a standard's name that of its Windows extension.

    Raises:
        UsageError: there is none of that name; the message names the nearest.
    """
    try:
        "a".encode(name)
        found = codecs.lookup(name).name
        return _LARGER.get(found, found)
    except (LookupError, ValueError):
        import difflib

        folded = name.lower().replace("-", "_").replace(" ", "_")
        spellings = sorted({*aliases, *aliases.values(), "shift_jis", "windows_1251", "windows_1252"})
        near = difflib.get_close_matches(folded, spellings, n=3, cutoff=0.5)
        meant = f" (did you mean {', '.join(near)}?)" if near else ""
        raise UsageError(
            f"unknown encoding {name[:40]!r}{meant}: write for example utf-8, cp1251, shift_jis"
        ) from None


def _wide(content: bytes) -> str | None:
    """Return the byte order of UTF-16 without a mark, detected by the zero bytes of its ASCII, else None.

    A few zero bytes are not enough: read as UTF-16, such a text has no line ends.
    """
    head = content[:_HEAD]
    zeros = head.count(0)
    if not zeros:
        return None
    odd, even = head[1::2].count(0), head[::2].count(0)
    if min(odd, even) != 0 and min(odd, even) * 8 >= max(odd, even):
        return None
    wide = "utf-16-le" if odd > even else "utf-16-be"
    sound = zeros * 4 >= len(head) or "\n" in head.decode(wide, "ignore")
    return wide if sound else None


def _decode_as(content: bytes, encoding: str) -> Decoded:
    """Decode; bytes that do not fit are read as Windows-1252, and their lines are recorded."""
    try:
        return Decoded(content.decode(encoding).removeprefix("\ufeff"), encoding)
    except UnicodeDecodeError:
        pass
    if encoding == _FALLBACK:  # Latin-1 fits any bytes; the five that cp1252 lacks are controls there
        return Decoded(content.decode("latin-1"), "latin-1")
    if encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32")):  # their line ends are no single bytes
        return Decoded(content.decode(encoding, "replace").removeprefix("\ufeff"), encoding)
    lines: list[str] = []
    stray: list[int] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            lines.append(line.decode(encoding))
        except UnicodeDecodeError:
            lines.append(line.decode(encoding, _STRAY))
            stray.append(number)
    return Decoded("\n".join(lines).removeprefix("\ufeff"), encoding, tuple(stray))


_UTF8_LEADS = bytes(range(0xC0, 0x100))  # the first byte of each character beyond ASCII
_STRAY = "similarity-stray-bytes"


def _read_stray(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that do not fit as Windows-1252, or as Latin-1 where that has no letter for them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(
        bytes([byte]).decode("cp1252" if byte not in _UNUSED else "latin-1") for byte in bad
    ), error.end


_UNUSED = frozenset({0x81, 0x8D, 0x8F, 0x90, 0x9D})  # by Windows-1252
codecs.register_error(_STRAY, _read_stray)


def _is_mostly_utf8(content: bytes) -> bool:
    """Return whether the characters beyond ASCII that are sound UTF-8 outnumber the other bytes."""
    sound = content.decode("utf-8", "ignore").encode()
    characters = len(sound) - len(sound.translate(None, _UTF8_LEADS))
    return characters > len(content) - len(sound)


def _detect(content: bytes) -> str:
    """Return the most likely encoding of bytes that are no UTF-8."""
    lines = (line for line in content.split(b"\n") if not line.isascii())
    sample = b"\n".join(_first(lines, _SAMPLE))
    readings = {encoding: text for encoding in _COSTS if (text := _read(sample, encoding)) is not None}
    credible = {encoding: text for encoding, text in readings.items() if _is_credible(encoding, text)}
    costs = {encoding: _cost(text, _COSTS[encoding]) for encoding, text in (credible or readings).items()}
    likeliest = min(costs, key=costs.__getitem__, default=_FALLBACK)
    if likeliest == _FALLBACK and _BROKEN_WORD.search(readings.get(_FALLBACK, "")):
        for other in ("cp1250", "mac_roman"):
            reading = _read(sample, other)
            if reading is not None and not _BROKEN_WORD.search(reading):
                return other
    return _by_language(sample, likeliest) if likeliest in _BY_LANGUAGE else likeliest


def _is_credible(encoding: str, text: str) -> bool:
    """Return whether a reading has words of its script: a sign or two among ASCII (`£5`, `2ª`) are none."""
    if encoding == _FALLBACK:
        return True
    if encoding in _SCRIPTS:
        words, broken = _SCRIPTS[encoding]
        return len(words.findall(text)) > 2 and broken.search(text) is None
    if encoding == "cp1251":
        return _CYRILLIC_WORD.search(text) is not None
    return _EAST_ASIAN_WORD.search(text) is not None


_CYRILLIC_WORD = re.compile(r"(?=[\u0400-\u045f]{0,30}[аеёиоуыэюяіїє])[\u0400-\u045f]{2}", re.IGNORECASE)
# A sign inside a word (P³uca), or a capital behind a small letter (opacitŽ): another code page's letter.
_BROKEN_WORD = re.compile(
    r"(?<=[^\W\d_])[¹²³ªº¼½¾¿¡£¥¢¯¨¸´ˆ˜‰†‡€ƒ„‚‹›•™](?=[^\W\d_])|[√∂∆∫◊¸]|(?<=[a-z])[À-ÖØ-ÞŠŒŽŸĄĂĆĘŁŃŚŞŹŻŤŢĽĎŘŮ]"
    r"|(?<!\w)[ƒˆ‰](?=[a-z])|(?<=[a-z] )ˆ(?= [a-z])"
)
_EAST_ASIAN_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]{2}")
# A word of each script, and what its spelling rules out.
_SCRIPTS = {
    "cp1255": (re.compile(r"[א-ת]{2,}"), re.compile(r"[ךםןףץ][א-ת]|[^\x00-\x7fא-ת]")),
    "cp1256": (
        re.compile(r"[\u0621-\u064a]{0,20}[لمنهوي][\u0621-\u064a]{0,20}"),
        re.compile(r"[^\x00-\x7f\u0600-\u06ff]"),
    ),
    "cp874": (
        re.compile(r"[ก-ฮ][\u0e30-\u0e3a\u0e47-\u0e4e]"),
        re.compile(
            r"(?<![ก-ฮ\u0e31-\u0e3a\u0e47-\u0e4e])[\u0e31\u0e33-\u0e3a\u0e47-\u0e4e]|[เแโใไ](?![ก-ฮ])|[^\x00-\x7f\u0e01-\u0e5b]"
        ),
    ),
}


def _first(lines: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield lines up to a total of `size` bytes; the last is whole."""
    for line in lines:
        yield line
        size -= len(line)
        if size <= 0:
            return


def _read(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _by_language(sample: bytes, default: str) -> str:
    """Return the single-byte code page of the language that charset-normalizer finds, else the default."""
    others = _BY_LANGUAGE[default]
    matches = charset_normalizer.from_bytes(sample, cp_isolation=[default, *others])
    coherence = {match.encoding: match.coherence for match in matches}
    for match in matches:
        languages, sure = others.get(match.encoding, (frozenset(), 1.0))
        likelier = match.coherence > coherence.get(default, -1.0)
        if match.language not in languages or not likelier or match.coherence < sure:
            continue
        return default if _read(sample, default) == str(match) else match.encoding
    return default


def _cost(text: str, letter_cost: Callable[[str], float]) -> float:
    """Return the negative log likelihood of a text in nats; the texts compared are of the same bytes."""
    total, run, before = 0.0, 0, ""
    for letter in text:
        if letter.isascii():
            total, run = total + _ASCII_COST, 0
            if before >= "\u2e80" and "a" <= letter <= "z":
                total += _INSIDE_COST
        else:
            run += 1
            total += letter_cost(letter)
            if "\u0370" <= letter <= "\u045f" and before.isascii() and before.isalpha():
                total += 6.0  # Cyrillic and Latin letters in one word
            if letter >= "\u2e80" and "a" <= before <= "z":
                total += _INSIDE_COST
            if letter.isupper() and before.islower():
                total += 4.0  # an upper-case letter inside a word
            if run > 2 and letter < "\u0250":
                total += 4.0  # three accented Latin letters in a row
        before = letter
    return total + _LONE_COST * len(_LONE_CYRILLIC.findall(text))


def _east_asian(
    sets: Sequence[tuple[str, range, float]], kana: float = _ODD_COST, hangul: float = _ODD_COST
) -> Callable[[str], float]:
    """Return the cost function of the letters of one East Asian language.

    Args:
        sets: (legacy character set, its first bytes, cost) of the everyday characters, the most frequent
            first.
        kana: cost of a Japanese syllable.
        hangul: cost of a Korean syllable in none of the sets.
    """

    @lru_cache(maxsize=65_536)
    def cost(letter: str) -> float:
        if "\u3040" <= letter <= "\u30ff":
            return kana
        if "\u3000" <= letter <= "\u303f" or "\uff01" <= letter <= "\uff60" or letter in _PUNCTUATION:
            return _MARK_COST
        for charset, firsts, price in sets:
            try:
                code = letter.encode(charset)
            except UnicodeEncodeError:
                continue
            if len(code) == 2 and code[0] in firsts:
                return price
        return hangul if "\uac00" <= letter <= "\ud7a3" else _ODD_COST

    return cost


def _cyrillic(letter: str) -> float:
    if "\u0400" <= letter <= "\u045f":
        return 3.6 if letter.islower() else 5.8
    return _MARK_COST if letter in _PUNCTUATION else 9.0


def _western(letter: str) -> float:
    if letter in _WESTERN_LETTERS:
        return 4.3
    if letter.lower() in _WESTERN_LETTERS:
        return 5.5
    if letter in _PUNCTUATION:
        return 5.0
    return 6.0 if letter in _SYMBOLS else 9.0


def _thai(letter: str) -> float:
    if letter in _THAI_COMMON:
        return 3.3
    if letter in _THAI_RARE:
        return 8.0
    return 5.0 if "\u0e01" <= letter <= "\u0e4e" else 7.0


_THAI_COMMON = frozenset("านรอกเงมยลวดทสตะปบคห่้ีิัแไ์")
_THAI_RARE = frozenset("ฃฅฆฌญฎฏฐฑฒณฦฬฮฤฯ฿")


def _script(first: str, last: str, cost: float) -> Callable[[str], float]:
    """Return the cost function of the letters of a script in one Unicode block."""

    def letter_cost(letter: str) -> float:
        if first <= letter <= last:
            return cost
        return _MARK_COST if letter in _PUNCTUATION else _ODD_COST

    return letter_cost


_PUNCTUATION = frozenset(
    "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022\u00b0\u00b1\u00d7\u00b7\u00ab\u00bb\u2116\u00a0\u00b5\u00b2\u00b3\u00bd\u20ac\u00a7"
)
_SYMBOLS = frozenset("¡¿ªº¹¼¾£¥¢©®™†‡‰¬¦¨´¸")
_WESTERN_LETTERS = frozenset("àâäáãåæçèéêëìíîïñòóôöõøùúûüœß")

# -log of an even chance among the everyday characters of each: 2,350 syllables, 3,755, 5,401 and 2,965
# ideographs; a Japanese text is half kana. The rarer second level of each set costs more.
_COSTS: Mapping[str, Callable[[str], float]] = {
    "cp932": _east_asian((("euc_jp", range(0xB0, 0xD0), 8.8), ("euc_jp", range(0xD0, 0xF5), 11.5)), kana=5.8),
    "euc_jp": _east_asian(
        (("euc_jp", range(0xB0, 0xD0), 8.8), ("euc_jp", range(0xD0, 0xF5), 11.5)), kana=5.8
    ),
    "gb18030": _east_asian((("gb2312", range(0xB0, 0xD8), 8.4), ("gb2312", range(0xD8, 0xF8), 10.3))),
    "big5": _east_asian((("big5", range(0xA4, 0xC7), 8.7), ("big5", range(0xC9, 0xFA), 11.5))),
    "cp949": _east_asian((("euc_kr", range(0xB0, 0xC9), 7.8), ("euc_kr", range(0xCA, 0xFE), 12.0))),
    "cp1251": _cyrillic,
    "cp1255": _script("\u05d0", "\u05ea", 3.1),
    "cp1256": _script("\u0621", "\u064a", 3.4),
    "cp874": _thai,
    _FALLBACK: _western,
}
