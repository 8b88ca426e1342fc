"""A producer in Python: flatc's generated builders, a Unix socket, nothing of the recorder's. See README.md."""
import argparse
import importlib
import json
import socket
import struct
import sys

import flatbuffers

CASES = ["absent", "defaults_written", "defaults_omitted", "min", "max", "nan", "negative_zero", "bytes", "arrays"]
I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
TEXTS = [
    b"\xff\xfe\x00\xc3\x28",
    b"\x00",
    b"\xed\xa0\x80",
    b'"quote"\\\n\t',
    "\N{CHART WITH UPWARDS TREND} gr\u00fc\u00df".encode(),
    b"\x80" * 70000,
]
NANS = [0x7FF8000000012345, 0xFFF80000000ABCDE, 0x7FF0000000000001, 0xFFF7FFFFFFFFFFFF]

# Topic: module, file identifier, fields. A field's kind says its builder function and what absence means:
# s string, n nullable string, a array of int64, i int64, u uint64, e enum, b bool, f double; a leading ? is null.
TOPICS = {
    "market_data": ("MarketData", "MKTD", """symbol:s exchange:s kind:e exch_ts:i local_ts:?i price:i volume:i
        bid_prices:a bid_sizes:a ask_prices:a ask_sizes:a exch_seq:u exch_seq_first:u exch_seq_prev:u trade_id:u
        trade_side:e conditions:s suspicious:b instrument_type:e underlying:s strike:?i option_right:e expiry:?d"""),
    "orders": ("Order", "ORDR", """order_id:s client_order_id:s strategy_id:s symbol:s exchange:s side:e order_type:e
        time_in_force:e status:e price:?i stop_price:?i qty:i filled_qty:i exch_ts:i local_ts:i latency_ns:i reason:s
        trace_id:s feature_snapshot_id:s risk_decision_id:s strategy_version:s config_hash:s git_sha:s
        data_session_id:s"""),
    "fills": ("Fill", "FILL", """fill_id:s order_id:s client_order_id:s broker_order_id:s strategy_id:s symbol:s
        exchange:s side:e liquidity:e price:i qty:i fee:i tax:i decision_price:?i arrival_price:?i match_ts:i
        local_ts:i trace_id:s feature_snapshot_id:s risk_decision_id:s strategy_version:s config_hash:s git_sha:s
        data_session_id:s"""),
    "risk_log": ("RiskLog", "RISK", """ts:i risk_decision_id:s strategy_id:s symbol:s rule:s reason_code:s approved:?b
        side:e metric:s value:f limit_value:?f price:?i qty:?i context:n trace_id:s"""),
    "backtest_runs": ("BacktestRun", "BTST", """run_id:s strategy_id:s git_commit:s config_hash:s start_ts:i end_ts:i
        config_json:s total_pnl:f sharpe_ratio:f max_drawdown:f win_rate:f total_turnover:f total_trades:u
        runtime_seconds:f created_at:i"""),
    "latency_spans": ("LatencySpan", "LATN", "ts:i trace_id:s stage:s strategy_id:s symbol:s latency_ns:i"),
}


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & U64_MAX
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & U64_MAX
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & U64_MAX
        return z ^ (z >> 31)

    def below(self, bound):
        return self.next() % bound


def from_bits(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def float_text(value):
    return "bits:%016x" % struct.unpack("<Q", struct.pack("<d", value))


def signed(bits):
    return bits - 2**64 if bits > I64_MAX else bits


def integer(case, random, low, high):
    if case == "min":
        return low
    if case == "max":
        return high
    if case == "random":
        value = signed(random.next()) >> random.below(64)
        return low + (value - low) % (high - low + 1)
    return 0


def real(case, random, state):
    if case == "nan":
        state["nan"] = state.get("nan", -1) + 1
        return from_bits(NANS[state["nan"] % 4])
    if case == "random":
        return from_bits(random.next())
    special = {"min": float("-inf"), "max": float("inf"), "negative_zero": -0.0, "bytes": 5e-324,
               "arrays": sys.float_info.max}
    return special.get(case, 0.0)


def text(case, random):
    if case == "bytes":
        return TEXTS[random.below(6)]
    if case == "random":
        return bytes(random.below(256) for _ in range(random.below(24)))
    return b"x" if case in ("min", "max") else b""


def array(case, random):
    if case == "min":
        return [I64_MIN]
    if case == "max":
        return [I64_MAX, I64_MIN, -1, 0, 1]
    if case == "arrays":
        return [signed(random.next()) for _ in range(10000)]
    if case == "random":
        return [integer(case, random, I64_MIN, I64_MAX) for _ in range(random.below(6))]
    return []


RANGES = {"i": (I64_MIN, I64_MAX), "u": (0, U64_MAX), "e": (0, 255), "d": (-(2**31), 2**31 - 1), "b": (0, 1)}


def build(module, identifier, name, fields, case, random):
    """Builds one size-prefixed frame; returns its bytes, and the values that must be stored."""
    builder = flatbuffers.Builder(1024)
    builder.ForceDefaults(case in ("defaults_written", "negative_zero", "min"))
    values, inline, state = {}, [], {}
    for field, kind in fields:
        optional, kind = kind.startswith("?") or kind == "n", kind.lstrip("?")
        if case == "absent" or (case == "random" and random.below(5) == 0):
            values[field] = None if optional else {"s": "hex:", "a": [], "f": float_text(0.0)}.get(kind, "0")
            continue
        if kind in "sn":
            value = text(case, random)
            values[field] = "hex:" + value.hex()
            inline.append((field, builder.CreateString(value)))
        elif kind == "a":
            items = array(case, random)
            values[field] = [str(item) for item in items]
            builder.StartVector(8, len(items), 8)
            for item in reversed(items):
                builder.PrependInt64(item)
            inline.append((field, builder.EndVector()))
        elif kind == "f":
            value = real(case, random, state)
            values[field] = float_text(value)
            inline.append((field, value))
        else:
            value = integer(case, random, *RANGES[kind])
            values[field] = str(value)
            inline.append((field, bool(value) if kind == "b" else value))
    getattr(module, name + "Start")(builder)
    for field, value in inline:
        getattr(module, name + "Add" + "".join(part.capitalize() for part in field.split("_")))(builder, value)
    builder.FinishSizePrefixed(getattr(module, name + "End")(builder), file_identifier=identifier.encode())
    return bytes(builder.Output()), values


def hello(source, session):
    module = importlib.import_module("hft.control.Hello")
    builder = flatbuffers.Builder(256)
    source, session = builder.CreateString(source), builder.CreateString(session)
    module.HelloStart(builder)
    module.HelloAddSource(builder, source)
    module.HelloAddSession(builder, session)
    builder.FinishSizePrefixed(module.HelloEnd(builder), file_identifier=b"HELO")
    return bytes(builder.Output())


class Acknowledgements:
    """Reads Welcome and Ack frames."""

    def __init__(self, connection):
        self.connection, self.pending = connection, b""

    def wait_for(self, identifier, least):
        """Waits for a message that says durable_seq >= least."""
        name = {b"WLCM": "Welcome", b"ACKN": "Ack"}[identifier]
        module = importlib.import_module("hft.control." + name)
        while True:
            frame = self.read_frame()
            if frame[4:8] == b"GBYE":
                sys.exit("the recorder said goodbye")
            if frame[4:8] != identifier:
                continue
            if getattr(module, name).GetRootAs(frame, 0).DurableSeq() >= least:
                return

    def read_frame(self):
        while len(self.pending) < 4 or len(self.pending) < 4 + struct.unpack_from("<I", self.pending)[0]:
            received = self.connection.recv(65536)
            if not received:
                sys.exit("the recorder closed the connection")
            self.pending += received
        end = 4 + struct.unpack_from("<I", self.pending)[0]
        frame, self.pending = self.pending[4:end], self.pending[end:]
        return frame


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("--classes", required=True, help="directory of flatc's Python classes")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session", nargs=2, metavar=("SOURCE", "ID"), help="open a session, wait for the last Ack")
    options = parser.parse_args()
    sys.path.insert(0, options.classes)

    topics = []
    for topic, (name, identifier, columns) in TOPICS.items():
        fields = [tuple(column.split(":")) for column in columns.split()]
        topics.append((topic, importlib.import_module("hft." + name), identifier, name, fields))

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(options.socket)
    replies = Acknowledgements(connection)
    if options.session:
        connection.sendall(hello(*options.session))
        replies.wait_for(b"WLCM", 0)
    random = Random(options.seed)
    for row in range(options.rows):
        topic, module, identifier, name, fields = topics[row % len(topics)]
        turn = row // len(topics)
        case = CASES[turn] if turn < len(CASES) else "random"
        frame, values = build(module, identifier, name, fields, case, random)
        connection.sendall(frame)
        print(json.dumps({"seq": row + 1, "topic": topic, "case": case, "values": values}))
    if options.session:
        replies.wait_for(b"ACKN", options.rows)
    connection.close()


main()
