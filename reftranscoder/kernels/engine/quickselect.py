"""The k-th largest of some numbers, by Hoare's quickselect."""

from __future__ import annotations

from .jit import routine


@routine
def kth_largest(numbers, count, k):
    """Return the ``k``-th largest (from 1) of ``numbers[:count]``, float64 without NaN.

    The numbers change places.  O(count) in the mean: the pivot is the median of three.
    """
    low, high, place = 0, count - 1, k - 1
    while low < high:
        first, middle, last = numbers[low], numbers[(low + high) // 2], numbers[high]
        pivot = max(min(first, middle), min(max(first, middle), last))
        left, right = low, high
        while left <= right:
            while numbers[left] > pivot:
                left += 1
            while numbers[right] < pivot:
                right -= 1
            if left <= right:
                numbers[left], numbers[right] = numbers[right], numbers[left]
                left += 1
                right -= 1
        if place <= right:
            high = right
        elif place >= left:
            low = left
        else:
            break
    return numbers[place]
