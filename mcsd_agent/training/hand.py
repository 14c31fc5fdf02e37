"""A window, a keyboard and a gamepad, through pygame: what a person sees and holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.training.key_map import DEAD_ZONE

_LINE = 22  # pixels of a line of text
_LEAST = 512  # pixels: a smaller picture is enlarged


@dataclass(frozen=True)
class Wish:
    """What the person wants besides driving: to `end` the recording, or to `discard` this episode."""

    end: bool = False
    discard: bool = False


class Hand:
    """A window with a picture and two lines of text. `held` is what is held now, the oldest first, with its strength;
    `tapped` what was pressed since the last `read`, even where it was let go again.

    `UserError` where no window can be opened, or a gamepad is wanted and there is none.
    """

    def __init__(self, title: str, *, gamepad: bool = False) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError:
            raise UserError("a keyboard is read with pygame; run: pip install 'gymnasium[classic-control]'") from None
        self._pygame = pygame
        try:
            pygame.display.init()
            pygame.font.init()
            self._window = pygame.display.set_mode((_LEAST, _LEAST))
        except pygame.error as error:
            raise UserError(f"no window can be opened ({error}); run this where there is a display") from None
        pygame.display.set_caption(title)
        self._font = pygame.font.Font(None, _LINE)
        self.held: dict[str, float] = {}
        self.tapped: dict[str, float] = {}
        self._pads: list[Any] = []
        if gamepad:
            pygame.joystick.init()
            self._pads = [pygame.joystick.Joystick(i) for i in range(pygame.joystick.get_count())]
            if not self._pads:
                self.close()
                raise UserError("no gamepad is connected; connect one, or use --expert keyboard")

    def show(self, picture: np.ndarray, lines: tuple[str, str]) -> None:
        """Draw an RGB picture `(height, width, 3)` uint8, and text below it."""
        pygame = self._pygame
        scale = max(1, -(-_LEAST // max(picture.shape[:2])))
        size = (picture.shape[1] * scale, picture.shape[0] * scale)
        if self._window.get_size() != (size[0], size[1] + 2 * _LINE):
            self._window = pygame.display.set_mode((size[0], size[1] + 2 * _LINE))
        surface = pygame.surfarray.make_surface(np.ascontiguousarray(picture.transpose(1, 0, 2)))
        self._window.fill((0, 0, 0))
        self._window.blit(pygame.transform.scale(surface, size), (0, 0))
        for i, line in enumerate(lines):
            self._window.blit(self._font.render(line, True, (255, 255, 255)), (4, size[1] + 3 + i * _LINE))
        pygame.display.flip()

    def read(self) -> Wish:
        """Take in what happened since the last call: Escape ends, Backspace discards."""
        pygame = self._pygame
        end = discard = False
        self.tapped = {}
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                end = True
            elif event.type == pygame.KEYDOWN:
                end |= event.key == pygame.K_ESCAPE
                discard |= event.key == pygame.K_BACKSPACE
                self._press(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self.held.pop(pygame.key.name(event.key), None)
            elif event.type == pygame.WINDOWFOCUSLOST:
                self.held.clear()  # a key that is let go elsewhere would be held for ever
            elif event.type == pygame.JOYBUTTONDOWN:
                self._press(f"button{event.button}")
            elif event.type == pygame.JOYBUTTONUP:
                self.held.pop(f"button{event.button}", None)
            elif event.type == pygame.JOYAXISMOTION:
                self.held.pop(f"axis{event.axis}", None)
                if abs(event.value) > DEAD_ZONE:
                    self.held[f"axis{event.axis}"] = float(event.value)
            elif event.type == pygame.JOYHATMOTION:
                self._hat(*event.value)
        return Wish(end, discard)

    def _press(self, name: str) -> None:
        self.held.pop(name, None)
        self.held[name] = self.tapped[name] = 1.0

    def _hat(self, x: int, y: int) -> None:
        for name in ("hat_left", "hat_right", "hat_up", "hat_down"):
            self.held.pop(name, None)
        for name, on in (("hat_left", x < 0), ("hat_right", x > 0), ("hat_up", y > 0), ("hat_down", y < 0)):
            if on:
                self._press(name)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
        self._pygame.joystick.quit()
