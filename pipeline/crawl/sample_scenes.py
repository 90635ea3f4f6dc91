"""Appearance, sound and text of the sample's venues: drawings, synthesised sound, word lists.

Every function takes its own generator, so that one clip does not depend on the others.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

VENUES = ("Beach", "Cafe", "Street")
WIDTH, HEIGHT = 192, 144
FRAME_RATE = 12
DURATION_S = 2
SAMPLE_RATE_HZ = 22_050
N_FRAMES = FRAME_RATE * DURATION_S
N_SAMPLES = SAMPLE_RATE_HZ * DURATION_S

Colour = tuple[float, float, float]
Scene = Callable[[float], np.ndarray]
"""Function from time in seconds to a picture (HEIGHT, WIDTH, 3), float32, RGB, 0..255."""

CUT_SHARE = 0.35
DIM_SHARE = 0.15


def picture(venue: str, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the `N_FRAMES` frames of one clip, each (HEIGHT, WIDTH, 3), uint8, RGB; some cut to a second view."""
    draw = _PICTURES[venue]
    views = [draw(rng), draw(rng)]
    cut = int(rng.integers(6, N_FRAMES - 6)) if rng.random() < CUT_SHARE else N_FRAMES
    gain = rng.uniform(0.18, 0.4) if rng.random() < DIM_SHARE else rng.uniform(0.7, 1.1)
    tint = rng.uniform(0.75, 1.15, size=3).astype(np.float32) * np.float32(gain)
    grain = rng.gamma(2.0, 4.0)
    sway = rng.uniform(0, 3, size=2)
    for i in range(N_FRAMES):
        t = i / FRAME_RATE
        pixels = views[i >= cut](t) * tint
        shift = np.array([[1, 0, sway[0] * np.sin(5 * t)], [0, 1, sway[1] * np.cos(4 * t)]])
        pixels = cv2.warpAffine(pixels, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        noise = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * grain
        yield np.clip(pixels + noise, 0, 255).astype(np.uint8)


def sound(venue: str, rng: np.random.Generator) -> np.ndarray:
    """Return the soundtrack of one clip, shape (N_SAMPLES,), int16; some have music or hiss mixed in."""
    wave = _SOUNDS[venue](rng)
    wave = wave / (np.abs(wave).max() + 1e-9)
    if rng.random() < 0.25:
        wave = wave + 0.5 * _chord(rng)
    wave = wave + rng.gamma(1.5, 0.06) * _band(rng, 50, 9000)
    loudness = rng.uniform(0.1, 0.9)
    return np.asarray(wave / np.abs(wave).max() * loudness * 32767, dtype=np.int16)


def caption(venue: str, rng: np.random.Generator) -> str:
    """Return a description of 6 to 12 words, some as hashtags, sometimes with emoji."""
    own = _pick(_WORDS[venue], int(rng.integers(3, 7)), rng)
    words = own + _pick(_ANY_WORDS, int(rng.integers(3, 7)), rng)
    words = [words[i] for i in rng.permutation(len(words))]
    n_tags = int(rng.integers(0, 4))
    tagged = words[: len(words) - n_tags] + [f"#{word}" for word in words[len(words) - n_tags :]]
    emoji = _pick(_EMOJI[venue] if rng.random() < 0.5 else _ANY_EMOJI, int(rng.integers(0, 3)), rng)
    return " ".join(tagged + emoji)


def _pick(text: str, n: int, rng: np.random.Generator) -> list[str]:
    """Return `n` different words of a text."""
    words = text.split()
    return [words[i] for i in rng.choice(len(words), size=n, replace=False)]


# --- pictures ---


def _rgb(colour: Colour) -> np.ndarray:
    """Return the colour as (3,), float32."""
    return np.array(colour, dtype=np.float32)


def _gradient(top: Colour, bottom: Colour, n_rows: int) -> np.ndarray:
    """Return a vertical gradient (n_rows, WIDTH, 3), float32."""
    share = np.linspace(0, 1, n_rows, dtype=np.float32)[:, None, None]
    rows = _rgb(top) * (1 - share) + _rgb(bottom) * share
    return np.broadcast_to(rows, (n_rows, WIDTH, 3)).copy()


def _sky(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return top and bottom colour: day, haze, evening or night, the same for all venues that have a sky."""
    skies: list[tuple[Colour, Colour]] = [
        ((70, 130, 210), (190, 220, 245)),
        ((150, 155, 165), (205, 208, 212)),
        ((90, 70, 130), (245, 160, 90)),
        ((12, 16, 40), (40, 48, 80)),
    ]
    return skies[int(rng.choice(4, p=[0.4, 0.25, 0.2, 0.15]))]


def _beach(rng: np.random.Generator) -> Scene:
    top, bottom = _sky(rng)
    horizon, shore = int(rng.integers(40, 70)), int(rng.integers(90, 115))
    sun = (int(rng.integers(20, WIDTH - 20)), int(rng.integers(12, horizon)))
    sea, speed = rng.uniform(0.7, 1.2), rng.uniform(2, 5)
    sand = rng.normal(0, 9, size=(HEIGHT, WIDTH, 1)).astype(np.float32) + _rgb((214, 188, 140))
    parasols = [
        (int(rng.integers(15, WIDTH - 15)), int(rng.integers(shore + 5, HEIGHT - 8)), int(rng.integers(0, 3)))
        for _ in range(int(rng.integers(0, 4)))
    ]
    columns = np.arange(WIDTH, dtype=np.float32)
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]

    def view(t: float) -> np.ndarray:
        image: np.ndarray = sand.copy()
        image[:horizon] = _gradient(top, bottom, horizon)
        cv2.circle(image, sun, 9, (255, 236, 170), -1, cv2.LINE_AA)
        ripple = np.sin(rows * rows / 160 + columns / 17 - speed * t) * 16
        edge = shore + 5 * np.sin(columns / 25 + 1.4 * t)
        water = (rows >= horizon) & (rows < edge)
        foam = (rows >= edge - 3) & (rows < edge)
        image[water] = (_rgb((40, 120, 165)) * sea + ripple[..., None])[water]
        image[foam] = (238, 243, 245)
        for x, y, c in parasols:
            cv2.line(image, (x, y), (x, y + 16), (110, 80, 60), 1, cv2.LINE_AA)
            cv2.ellipse(image, (x, y), (12, 8), 0, 180, 360, _PAINTS[c], -1, cv2.LINE_AA)
        return image

    return view


def _street(rng: np.random.Generator) -> Scene:
    top, bottom = _sky(rng)
    kerb = int(rng.integers(92, 112))
    backdrop = _gradient(top, bottom, HEIGHT)
    x = -int(rng.integers(0, 20))
    while x < WIDTH:
        width, roof = int(rng.integers(26, 50)), int(rng.integers(8, 60))
        shade = float(rng.uniform(55, 150))
        wall = (shade, shade * 0.95, shade * rng.uniform(0.8, 1.05))
        cv2.rectangle(backdrop, (x, roof), (x + width - 2, kerb), wall, -1)
        for wx in range(x + 4, x + width - 8, 9):
            for wy in range(roof + 6, kerb - 10, 12):
                pane = (240, 220, 140) if rng.random() < 0.35 else (60, 70, 85)
                cv2.rectangle(backdrop, (wx, wy), (wx + 4, wy + 6), pane, -1)
        x += width
    backdrop[kerb:] = (78, 78, 82)
    cv2.rectangle(backdrop, (0, kerb), (WIDTH, kerb + 5), (165, 162, 158), -1)
    for lamp in range(int(rng.integers(10, 50)), WIDTH, 70):
        cv2.line(backdrop, (lamp, kerb), (lamp, kerb - 48), (40, 40, 45), 2)
        cv2.circle(backdrop, (lamp, kerb - 50), 4, (255, 240, 190), -1, cv2.LINE_AA)
    cars = [
        (rng.uniform(0, 260), rng.choice([-1, 1]) * rng.uniform(40, 120), int(rng.integers(0, 3)))
        for _ in range(int(rng.integers(1, 4)))
    ]

    def view(t: float) -> np.ndarray:
        image = backdrop.copy()
        for dash in range(-20, WIDTH, 36):
            cv2.rectangle(image, (dash, kerb + 26), (dash + 16, kerb + 28), (225, 225, 215), -1)
        for lane, (start, speed, c) in enumerate(cars):
            left, base = int((start + speed * t) % 260) - 45, kerb + 16 + 9 * lane
            cv2.rectangle(image, (left, base - 10), (left + 38, base), _PAINTS[c], -1)
            cv2.rectangle(image, (left + 8, base - 18), (left + 29, base - 10), (150, 175, 190), -1)
            for wheel in (left + 9, left + 30):
                cv2.circle(image, (wheel, base), 4, (20, 20, 20), -1, cv2.LINE_AA)
        return image

    return view


def _cafe(rng: np.random.Generator) -> Scene:
    warm = rng.uniform(0.7, 1.1)
    backdrop = _gradient((120 * warm, 84 * warm, 60), (172 * warm, 128 * warm, 92), HEIGHT)
    if rng.random() < 0.4:  # a window on the same sky as outdoors
        top, bottom = _sky(rng)
        left = int(rng.integers(0, 110))
        backdrop[16:70, left : left + 70] = _gradient(top, bottom, 54)[:, :70]
        cv2.rectangle(backdrop, (left, 16), (left + 70, 70), (70, 45, 30), 2)
    for shelf in (34, 62)[: int(rng.integers(0, 3))]:
        cv2.rectangle(backdrop, (0, shelf), (WIDTH, shelf + 3), (80, 50, 32), -1)
        for bottle in range(6, WIDTH, int(rng.integers(9, 15))):
            neck, paint = shelf - int(rng.integers(7, 14)), _PAINTS[int(rng.integers(0, 3))]
            cv2.rectangle(backdrop, (bottle, neck), (bottle + 4, shelf), paint, -1)
    lamps = [int(x) for x in rng.integers(20, WIDTH - 20, int(rng.integers(1, 4)))]
    heads = [(int(x), rng.uniform(0, 6)) for x in rng.integers(20, WIDTH - 20, int(rng.integers(0, 4)))]
    table = int(rng.integers(100, 118))
    cups = [int(x) for x in rng.integers(15, WIDTH - 25, int(rng.integers(1, 4)))]

    def view(t: float) -> np.ndarray:
        image = backdrop.copy()
        for x, phase in heads:
            y = 80 + int(2 * np.sin(3 * t + phase))
            cv2.circle(image, (x, y), 10, (186, 140, 112), -1, cv2.LINE_AA)
            cv2.ellipse(image, (x, y + 34), (18, 24), 0, 0, 360, (62, 58, 74), -1, cv2.LINE_AA)
        image[table:] = _gradient((118, 78, 48), (84, 54, 32), HEIGHT - table)
        for x in lamps:
            swing = x + int(3 * np.sin(1.5 * t + x))
            cv2.line(image, (x, 0), (swing, 22), (40, 30, 25), 1, cv2.LINE_AA)
            glow = np.zeros((HEIGHT, WIDTH), np.float32)
            cv2.circle(glow, (swing, 26), 16, 70.0, -1)
            image += cv2.GaussianBlur(glow, (0, 0), 9)[..., None] * _rgb((1, 0.85, 0.5))
            cv2.circle(image, (swing, 25), 5, (255, 236, 180), -1, cv2.LINE_AA)
        for x in cups:
            cv2.ellipse(image, (x + 6, table + 16), (13, 4), 0, 0, 360, (205, 200, 190), -1, cv2.LINE_AA)
            cv2.rectangle(image, (x, table + 2), (x + 12, table + 14), (244, 240, 232), -1)
            for step in range(4):
                drift = x + 6 + int(3 * np.sin(4 * t + step))
                cv2.circle(image, (drift, table - 4 - 6 * step), 2, (190, 175, 165), -1, cv2.LINE_AA)
        return image

    return view


_PAINTS: list[Colour] = [(200, 60, 50), (60, 120, 190), (235, 190, 60)]
_PICTURES: dict[str, Callable[[np.random.Generator], Scene]] = {
    "Beach": _beach,
    "Cafe": _cafe,
    "Street": _street,
}

# --- sound: every function returns (N_SAMPLES,), float64 ---

_TIME_S = np.arange(N_SAMPLES) / SAMPLE_RATE_HZ


def _band(rng: np.random.Generator, low_hz: float, high_hz: float) -> np.ndarray:
    """Return noise between two frequencies, softly limited, with unit deviation."""
    hz = np.fft.rfftfreq(N_SAMPLES, 1 / SAMPLE_RATE_HZ)
    shape = 1 / (1 + (low_hz / (hz + 1)) ** 4) / (1 + (hz / high_hz) ** 4)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(N_SAMPLES)) * shape, N_SAMPLES)
    return np.asarray(wave / wave.std())


def _swell(rng: np.random.Generator, rate_hz: float) -> np.ndarray:
    """Return a slow rise and fall between 0 and 1."""
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (rate_hz * _TIME_S + rng.random())))


def _ping(start_s: float, hz: np.ndarray | float, decay_s: float) -> np.ndarray:
    """Return a tone that starts at once and decays; `hz` may change with time."""
    since = _TIME_S - start_s
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, _TIME_S.shape)) / SAMPLE_RATE_HZ
    return np.where(since < 0, 0.0, np.exp(-np.maximum(since, 0) / decay_s) * np.sin(phase))


def _chord(rng: np.random.Generator) -> np.ndarray:
    root = rng.choice([196.0, 220.0, 261.6, 293.7])
    steps = np.array([1, 1.25, 1.5])[:, None]
    return np.asarray(np.sin(2 * np.pi * root * steps * _TIME_S).mean(axis=0))


def _surf(rng: np.random.Generator) -> np.ndarray:
    wave = _band(rng, 100, rng.uniform(900, 2500)) * (0.25 + _swell(rng, rng.uniform(0.3, 0.8)))
    for _ in range(int(rng.integers(0, 4))):
        start, pitch = rng.uniform(0, 1.7), rng.uniform(1400, 2600)
        wave += rng.uniform(0.5, 1.5) * _ping(start, pitch - 900 * (_TIME_S - start), 0.12)
    return wave


def _traffic(rng: np.random.Generator) -> np.ndarray:
    wave = 0.7 * _band(rng, 40, rng.uniform(500, 1500)) * (0.5 + 0.5 * _swell(rng, rng.uniform(0.3, 0.9)))
    engine = rng.uniform(55, 110) * (1 + rng.uniform(-0.2, 0.2) * _TIME_S)
    phase = 2 * np.pi * np.cumsum(engine) / SAMPLE_RATE_HZ
    for k in (1, 2, 3, 4):
        wave += rng.uniform(0.3, 1.0) / k * np.sin(k * phase)
    if rng.random() < 0.4:
        start = rng.uniform(0, 1.5)
        wave += 1.2 * (_ping(start, 410.0, 0.4) + _ping(start, 515.0, 0.4))
    return wave


def _chatter(rng: np.random.Generator) -> np.ndarray:
    wave = 0.3 * _band(rng, 60, 1200)
    for _ in range(int(rng.integers(2, 6))):
        formant = rng.uniform(350, 1800)
        syllables = _swell(rng, rng.uniform(2.5, 5)) ** 3 * _swell(rng, rng.uniform(0.4, 1))
        wave += rng.uniform(0.5, 1.2) * _band(rng, formant * 0.8, formant * 1.3) * syllables
    for _ in range(int(rng.integers(0, 4))):
        wave += rng.uniform(0.4, 1.4) * _ping(rng.uniform(0, 1.8), rng.uniform(2500, 5500), 0.06)
    return wave


_SOUNDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "Beach": _surf,
    "Cafe": _chatter,
    "Street": _traffic,
}

# --- words: some belong to two venues ---

_WORDS = {
    "Beach": "beach sand waves ocean sea surf swim tide shore sunset sunshine holiday seagull barefoot walk",
    "Cafe": "cafe coffee latte espresso cake barista table croissant brunch cosy book music window friends",
    "Street": "street city traffic bus lights corner bikes night taxi downtown rush music sunset coffee walk",
}
_ANY_WORDS = (
    "so good today with my love this is the best day ever again lol when you can not stop just me and us "
    "first time here haha loop it vine summer happy monday wait for"
)
_EMOJI = {"Beach": "🏖️ 🌊 ☀️ 🏄", "Cafe": "☕ 🍰 🥐 📖", "Street": "🚕 🏙️ 🚦 🚲"}
_ANY_EMOJI = "😂 ❤️ 🔥 ✨ 🙌 😎"
