"""OpenAssistant's message trees (Köpf et al. 2023, arXiv:2304.07327): threads, and ranked replies.

A node has `text`, `role` (prompter or assistant), `replies` and, among its siblings, a `rank`, 0 the best.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.data.read.comparisons import Messages, Ranking, Verdict
from camelid.data.read.rows import Row

Node = Mapping[str, Any]
_ROLES = {"prompter": "user", "assistant": "assistant"}


def best_thread(row: Row) -> Messages:
    """The thread that follows the best-ranked reply at every turn, up to the last answer."""
    thread, nodes = list[Node](), [_root(row)]
    while nodes:
        thread.append(nodes[0])
        nodes = _replies(nodes[0])
    while thread and thread[-1]["role"] != "assistant":
        thread.pop()
    if not thread:
        raise CamelidError("the tree has no answer of an assistant")
    return [_message(node) for node in thread]


def ranked_verdicts(row: Row) -> list[Verdict]:
    """For each prompt with ranked answers the best one as good, and the worst as bad.

    The prompts are those of all threads of the tree. Prompts without two ranked answers give none.
    """
    found = list[Verdict]()
    for prompt, answers, _ in ranked_replies(row):
        found += [
            Verdict([*prompt, answers[0]], "good", len(prompt)),
            Verdict([*prompt, answers[-1]], "bad", len(prompt)),
        ]
    return found


def tree_rankings(row: Row) -> list[Ranking]:
    """For each prompt with at least two ranked answers the ranking of all of them."""
    return [
        Ranking(tuple([*prompt, answer] for answer in answers), scores, len(prompt))
        for prompt, answers, scores in ranked_replies(row)
    ]


def ranked_replies(row: Row) -> Iterator[tuple[Messages, Messages, tuple[float, ...]]]:
    """Each prompt of a tree, as messages, with at least two ranked answers, the best first, and minus their
    ranks."""
    waiting: list[tuple[Messages, Node]] = [([], _root(row))]
    while waiting:
        before, node = waiting.pop()
        thread, replies = [*before, _message(node)], _replies(node)
        ranked = [reply for reply in replies if _rank(reply) is not None and reply["role"] == "assistant"]
        if len(ranked) > 1:
            scores = tuple(-float(_rank(reply) or 0) for reply in ranked)
            yield thread, [_message(reply) for reply in ranked], scores
        waiting += [(thread, reply) for reply in reversed(replies)]


def gathered(rows: Iterable[tuple[Row, str]]) -> Iterator[tuple[Row, str]]:
    """Trees from rows of one message each, with the place of their first row.

    The rows of a tree follow each other, an answer after its question. One without its parent makes the tree
    a row whose `prompt` says so.
    """
    for name, group in groupby(rows, key=lambda pair: pair[0].get("message_tree_id")):
        nodes, where, prompt = dict[Any, dict[str, Any]](), "", None
        problem = "" if name else "no message_tree_id"
        for row, place in group:
            where = where or place
            node = {**row, "replies": []}
            nodes[row.get("message_id")] = node
            if row.get("parent_id") is None and prompt is None:
                prompt = node
            elif (parent := nodes.get(row.get("parent_id"))) is not None:
                parent["replies"].append(node)
            else:
                problem = (
                    problem or f"the parent of message {row.get('message_id')} is not before it ({place})"
                )
        yield {"message_tree_id": name, "prompt": problem or prompt}, where


def _root(row: Row) -> Node:
    root = row.get("prompt", row)
    if not isinstance(root, Mapping):
        raise CamelidError(
            f"the tree has no first message: {root if isinstance(root, str) else shortened(root)}"
        )
    _message(root)
    return root


def _replies(node: Node) -> list[Node]:
    """The replies to a message, best rank first, those without a rank last; deleted ones are left out."""
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise CamelidError(f"`replies` of message {node.get('message_id')} must be a list of messages")
    kept = [reply for reply in replies if not reply.get("deleted")]
    for reply in kept:
        _message(reply)
    ranks = [_rank(reply) for reply in kept]
    order = sorted(range(len(kept)), key=lambda at: (ranks[at] is None, ranks[at] or 0))
    return [kept[at] for at in order]


def _rank(node: Node) -> float | None:
    rank = node.get("rank")
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int | float)):
        raise CamelidError(
            f"rank of message {node.get('message_id')} is {shortened(rank)}; it must be a number"
        )
    return rank


def _message(node: Node) -> dict[str, Any]:
    role, text = node.get("role"), node.get("text")
    if role not in _ROLES:
        raise CamelidError(
            f"role of message {node.get('message_id')} is {shortened(role)}; allowed: {', '.join(_ROLES)}"
        )
    if not isinstance(text, str):
        raise CamelidError(
            f"text of message {node.get('message_id')} is {shortened(text)}; it must be a string"
        )
    return {"role": _ROLES[role], "content": text}
