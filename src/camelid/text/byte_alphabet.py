"""The printable characters in which byte-level vocabularies spell the 256 bytes (GPT-2's table)."""


def _alphabet() -> dict[int, str]:
    """Printable bytes map to themselves, all others to successive characters from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(0x100 + offset) for offset, byte in enumerate(others)
    }


CHARACTER_OF_BYTE = _alphabet()
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def spell(text: str) -> str:
    """The UTF-8 bytes of `text` in the byte alphabet."""
    return text.encode().decode("latin-1").translate(CHARACTER_OF_BYTE)
