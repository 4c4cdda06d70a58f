"""When to stop training on limited text: Kaplan et al. 2020 (arXiv:2001.08361), section 5.3."""

NC, DC, ALPHA_N, ALPHA_D = 6.4e13, 1.8e13, 0.076, 0.103
"""Of L(N, D), their table 2: parameters without embeddings, tokens, and both exponents."""
SC, ALPHA_S = 2.1e3, 0.76
"""Of L(N, S), their table 3."""
B_STAR, ALPHA_B = 2e8, 0.21
"""Of the critical batch, eq. 5.3, in tokens."""


def kaplan_loss(parameters: float, tokens: float) -> float:
    """L(N, D) of eq. 1.5 in nats per token of their text; parameters without embeddings."""
    return float(((NC / parameters) ** (ALPHA_N / ALPHA_D) + DC / tokens) ** ALPHA_D)


def earliest_stop(parameters: float, unique_tokens: float, batch_tokens: float) -> float:
    """The number of updates before which more repeats of limited text still lower the validation loss.

    S_stop >= Sc / (L(N, D) - L(N, inf))^(1 / alpha_S) (eq. 5.7) at a batch far above the critical one; at a
    batch of B tokens times 1 + B_crit(L) / B (eq. 5.4), with B_crit = 2e8 / L^(1 / 0.21) tokens. A lower
    bound: where the loss on limited text leaves that on endless text. parameters: without embeddings.
    """
    loss = kaplan_loss(parameters, unique_tokens)
    gap = loss - kaplan_loss(parameters, float("inf"))
    critical = B_STAR / loss ** (1 / ALPHA_B)
    return float(SC / gap ** (1 / ALPHA_S) * (1 + critical / batch_tokens))
