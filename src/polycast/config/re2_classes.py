"""Character classes of RE2's syntax, by name.

Only ASCII is distinguished, as path names contain nothing else: a class is a set of ASCII characters, and one flag for
all other characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

ASCII: Final = tuple(map(chr, range(128)))


class CharacterClass(msgspec.Struct, frozen=True):
    """Which characters one step of an expression accepts."""

    ascii: frozenset[str]
    others: bool = False
    """Whether characters beyond ASCII are accepted."""

    def has(self, character: str) -> bool:
        return character in self.ascii or (self.others and character > "\x7f")

    def negated(self) -> CharacterClass:
        return CharacterClass(ANY.ascii - self.ascii, not self.others)

    def folded(self) -> CharacterClass:
        """With the other case of each letter."""
        letters = self.ascii
        return CharacterClass(letters | set(map(str.lower, letters)) | set(map(str.upper, letters)), self.others)


ANY: Final = CharacterClass(frozenset(ASCII), others=True)
NOT_NEWLINE: Final = CharacterClass(ANY.ascii - {"\n"}, others=True)


def of(characters: Iterable[str]) -> CharacterClass:
    """Return a class of ASCII characters."""
    return CharacterClass(frozenset(characters))


def span(first: str, last: str) -> CharacterClass:
    """Return the class of a range of characters."""
    return CharacterClass(
        frozenset(ASCII[ord(first) : ord(last) + 1]) if first < "\x80" else frozenset(), last > "\x7f"
    )


def union(classes: Iterable[CharacterClass]) -> CharacterClass:
    """Return the union of classes."""
    found: frozenset[str] = frozenset()
    others = False
    for one in classes:
        found |= one.ascii
        others |= one.others
    return CharacterClass(found, others)


def _matching(test: Callable[[str], bool]) -> CharacterClass:
    return of(filter(test, ASCII))


_DIGIT: Final = _matching(str.isdigit)
_WORD: Final = _matching(lambda character: character.isalnum() or character == "_")
_SPACE: Final = of("\t\n\f\r ")  # without \v, unlike the class [[:space:]]

PERL: Final = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
"""The classes of a backslash and a lower-case letter; the upper-case letter negates."""

POSIX: Final = {
    "alnum": _matching(str.isalnum),
    "alpha": _matching(str.isalpha),
    "ascii": of(ASCII),
    "blank": of("\t "),
    "cntrl": _matching(lambda character: character < " " or character == "\x7f"),
    "digit": _DIGIT,
    "graph": span("!", "~"),
    "lower": span("a", "z"),
    "print": span(" ", "~"),
    "punct": _matching(lambda character: "!" <= character <= "~" and not character.isalnum()),
    "space": of("\t\n\v\f\r "),
    "upper": span("A", "Z"),
    "word": _WORD,
    "xdigit": of("0123456789abcdefABCDEF"),
}

_CATEGORIES: Final = (
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs"
)

_SCRIPTS: Final = """
Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo
Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common
Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs
Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul
Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi
Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki
Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean
Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi
Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong
Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian
Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi
Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese
Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan
Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square
"""


def unicode_class(name: str) -> CharacterClass | None:
    """Return the class that ``\\p{name}`` stands for, a general category or a script; None for any other name."""
    if name == "Any":
        return ANY
    if name in _CATEGORIES.split():
        return _matching(lambda character: unicodedata.category(character).startswith(name))
    if name in _SCRIPTS.split():
        # Of ASCII, the letters are Latin, and all the rest is Common.
        in_script = {"Latin": str.isalpha, "Common": lambda character: not character.isalpha()}.get(name)
        return _matching(in_script) if in_script is not None else of("")
    return None
