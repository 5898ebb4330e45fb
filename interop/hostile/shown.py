"""Figures that a test of cargo's holds: by line, the test's binary and names or parts of names; and
those that the suites of the cluster hold, with a real Redis."""

import re
import subprocess

from rig import ROOT

TESTS = {
    2: [
        ("calls", ["a_call_beyond_a_limit_is_refused_with_a_reason_and_the_drain_with_retry_after"])
    ],
    3: [
        ("media", ["twenty_kills_and_a_rollover", "handed_over_at_any_moment"]),
    ],
    4: [
        (
            "cluster",
            [
                "while_the_store_is_away_users_elsewhere",
                "a_question_that_is_never_answered",
                "an_hour_without_the_store",
                "a_node_that_answers_its_peers",
                "while_the_store_is_away_each_node",
            ],
        )
    ],
    5: [
        (
            "cluster",
            [
                "whatever_is_cut_a_call_has_one_owner",
                "whatever_fails_everybody_is_reached",
                "a_deposed_owner_says_nothing",
                "two_takers_at_once",
            ],
        )
    ],
    8: [("media", ["l8_two_hundred", "rule_5_", "the_announced_port_wins_over_whoever"])],
    9: [
        (
            "media",
            [
                "l9_a_thousand",
                "rule_1_",
                "a_certificate_that_does_not_match",
                "another_certificate_without",
                "forged_nominations",
                "no_suite_without_authenticated",
            ],
        )
    ],
    10: [("media", ["l10_junk", "rules_2_and_3", "a_flood_of_authentic_packets"])],
    11: [
        (
            "calls",
            [
                "digest_leak",
                "a_browser_that_challenges_us",
                "a_challenge_to_our_reinvite",
                "texts_and_probes_answer",
                "a_wrong_password_looks_like_an_unknown_user",
                "guesses_cost_their_source",
                "credentials_for_another_request_uri",
            ],
        ),
        ("node", ["guesses_at_the_apis_tokens"]),
    ],
    12: [
        (
            "calls",
            [
                "a_route_brakes_what_one_user",
                "limits_per_user_trunk_and_second",
                "sip_from_an_address_of_no_trunk",
                "unauthenticated_requests_on_a_websocket",
            ],
        )
    ],
    13: [("operator", ["what_a_peer_writes_moves_no_terminal", "no_log_holds_a_secret"])],
    14: [("torture", [""])],
    16: [("node", ["a_broken_frame", "fragments_without_end"])],
    17: [("node", ["half_a_body", "an_answer_nobody_reads"])],
    18: [
        (
            "calls",
            [
                "no_description_names_where",
                "no_attribute_names_where",
                "no_answer_names_where",
                "our_own_addresses_take_no_media",
                "no_header_names_where",
                "dns_is_believed_within",
            ],
        )
    ],
    19: [
        (
            "calls",
            [
                "our_own_invite_come_back_is_482",
                "the_same_invite_by_two_paths",
                "goto_continues_in_another_dialplan",
                "max_breadth_limits_a_fork",
                "no_datagram_brings_out_more",
            ],
        )
    ],
    20: [("calls", ["random_lives_leave_nothing_behind"])],
    21: [("calls", ["dying::"]), ("media", ["stopped::", "a_browser_without_consent"])],
    24: [("--lib", ["a_bug_in", "a_worker_that_dies", "a_core_that_dies"])],
    25: [("hosts", ["the_demo_binds"]), ("node", ["pages_have_a_strict_policy"])],
}
# Scripts beside them, with what each shows: whatever it finds wrong, it says on a line of its own.
SCRIPTS = {
    4: [
        ("a primary is lost, Sentinel names another, over TLS", ["cluster/store.py"]),
        (
            "Redis is killed for 60 s under 48 calls",
            ["cluster/takeover.py", "--calls", "48", "store-away"],
        ),
    ],
}
# Those a short run has time for; `make test` runs all of them anyway.
SHORT = ()


def cargo(target, names):
    """Passed and failed tests, and how many of the names no test has."""
    where = ["--lib"] if target == "--lib" else ["--test", target]
    command = ["cargo", "test", "--offline", "--locked", *where, "--", *filter(None, names)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) passed; (\d+) failed", out)
    passed, failed = map(int, found.groups()) if found else (0, 1)
    missing = sum(not re.search(rf"^test .*{re.escape(n)}.* \.\.\. ok$", out, re.M) for n in names)
    return passed, failed + missing


def script(words):
    """What a script says that is not as it should be; one if it says nothing and fails."""
    command = [ROOT / "interop" / words[0], *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    print("\n".join(wrong), flush=True)
    return max(len(wrong), int(done.returncode != 0))


def run(card, line):
    for what, words in SCRIPTS.get(line, []):
        card.note(line, f"{what}: what is not as asked (`interop/{words[0]}`)", script(words), 0)
    for target, names in TESTS.get(line, []):
        passed, bad = cargo(target, names)
        words = ", ".join(f"`{n.rstrip(':_')}…`" if n else "all" for n in names)
        what = f"tests of `{target}` that fail, of {passed + bad} ({words})"
        card.note(line, what, bad, 0)
