"""Which numbers of a sequence have come: the highest, and the gaps below it with when each was noticed."""

import bisect

import msgspec

MOST_GAPS = 1000


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """The numbers from `first` to `last` have not come; `noticed` is when the first number above them did."""

    first: int
    last: int
    noticed: float


class Received(msgspec.Struct):
    """Numbers that count up from 0 and may come late, twice or not at all.

    Of more than MOST_GAPS gaps the oldest are forgotten. What comes out of one of those counts as new: rather a record
    twice than one that is lost. `floor` is the highest number of which that is so.
    """

    highest: int = -1
    gaps: list[Gap] = []
    floor: int = -1

    def take(self, number: int, now: float) -> bool:
        """Note that a number came; return whether it is new."""
        if number <= self.highest:
            return self._fill(number)
        if number > self.highest + 1:
            self.gaps.append(Gap(self.highest + 1, number - 1, now))
            if len(self.gaps) > MOST_GAPS:
                self.floor = self.gaps.pop(0).last
        self.highest = number
        return True

    @property
    def missing(self) -> int:
        """How many numbers below the highest have not come."""
        return sum(gap.last - gap.first + 1 for gap in self.gaps)

    def _fill(self, number: int) -> bool:
        place = bisect.bisect_right(self.gaps, number, key=lambda gap: gap.first) - 1
        if place < 0 or self.gaps[place].last < number:
            return number <= self.floor
        gap = self.gaps[place]
        rest = (Gap(gap.first, number - 1, gap.noticed), Gap(number + 1, gap.last, gap.noticed))
        self.gaps[place : place + 1] = [part for part in rest if part.first <= part.last]
        return True
