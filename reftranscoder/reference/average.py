"""The average of the weights over the steps, with p the weights after step t = 1, 2, ...::

    average  <-  average  +  w (p - average),    w  =  max(1 - decay, 1 / t)              (V1)

Up to step 1 / (1 - decay) this is the mean of all steps, so that the start leaves no trace; from
then on the average forgets exponentially.  With decay = 1 it is the mean of all steps.  Where only
the last of every n steps is taken, for all n, (V1) holds with t / n for t and decay^n for decay.

Source: Polyak & Juditsky (1992), "Acceleration of stochastic approximation by averaging", for the
mean; with the exponential weights, and these while t is small, Karras et al. (2024), "Analyzing
and improving the training dynamics of diffusion models", discuss what it does to training.
"""

from __future__ import annotations


def average_step(average, p, t, decay):
    """Return the new ``average``, of the shape of ``p``; ``t`` is 1 at first."""
    return average + max(1 - decay, 1 / t) * (p - average)  # (V1)
