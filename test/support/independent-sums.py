"""Counts and exact sums of market data files, from the files alone. Shares no code with the importers.

usage: independent-sums.py lean|binance|lobster FILE...    (a directory stands for the files in it)

Prints one JSON object: {"files": {NAME: SUMS}, "total": SUMS}. SUMS maps "topic/kind"
(LOBSTER: "topic/message type"), and "topic" for all of them, to

  rows          number of rows
  volume        sum of volume (market_data) or qty (orders, fills)
  notional      sum of price * volume, or price * qty
  bid_size, bid_notional, ask_size, ask_notional      sums over all levels of size, and of price * size
  levels        number of levels on both sides
  buys          rows whose side (or trade_side) is buy
  first_exch_ts, last_exch_ts                         least and greatest, ns since 1970 (fills: match_ts)

All sums are decimal text, exact, without trailing zeros. LOBSTER files are given as pairs.
"""
import datetime
import gzip
import io
import json
import os
import re
import sys
import zipfile
import zoneinfo
from decimal import Decimal, getcontext

getcontext().prec = 80
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
NO_LEVEL = 9999999999


def new_sums():
    zero = Decimal(0)
    return {"rows": 0, "volume": zero, "notional": zero, "bid_size": zero, "bid_notional": zero, "ask_size": zero,
            "ask_notional": zero, "levels": 0, "buys": 0, "first_exch_ts": None, "last_exch_ts": None}


class Totals(dict):
    def row(self, key, time, price=None, volume=None, bids=(), asks=(), buy=False):
        for sums in (self.setdefault(key, new_sums()), self.setdefault(key.split("/")[0], new_sums())):
            self.count(sums, time, price, volume, bids, asks, buy)

    @staticmethod
    def count(sums, time, price, volume, bids, asks, buy):
        sums["rows"] += 1
        sums["buys"] += buy
        if volume is not None:
            sums["volume"] += volume
            if price is not None:
                sums["notional"] += price * volume
        for side, levels in (("bid", bids), ("ask", asks)):
            for level_price, size in levels:
                sums["levels"] += 1
                sums[side + "_size"] += size
                sums[side + "_notional"] += level_price * size
        if sums["first_exch_ts"] is None or time < sums["first_exch_ts"]:
            sums["first_exch_ts"] = time
        if sums["last_exch_ts"] is None or time > sums["last_exch_ts"]:
            sums["last_exch_ts"] = time

    def add(self, other):
        for key, sums in other.items():
            mine = self.setdefault(key, new_sums())
            for name, value in sums.items():
                if name == "first_exch_ts":
                    mine[name] = value if mine[name] is None else min(mine[name], value)
                elif name == "last_exch_ts":
                    mine[name] = value if mine[name] is None else max(mine[name], value)
                else:
                    mine[name] += value


def wall_time_ns(day, nanoseconds):
    """Wall-clock time of day in New York to ns since 1970."""
    seconds, rest = divmod(nanoseconds, 10**9)
    local = datetime.datetime.combine(day, datetime.time()) + datetime.timedelta(seconds=seconds)
    return int(local.replace(tzinfo=NEW_YORK).timestamp()) * 10**9 + rest


def day_in(*names):
    for name in names:
        found = re.search(r"(20\d\d)-?(\d\d)-?(\d\d)", os.path.basename(name))
        if found:
            return datetime.date(*map(int, found.groups()))
    raise SystemExit("no date in %r" % (names,))


def texts(path):
    """(name, text) of the file or of each entry of the archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [(name, archive.read(name).decode()) for name in archive.namelist()]
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    return [(path, data.decode())]


def lines(text):
    return [line for line in text.replace("\r", "").split("\n") if line]


def lean(path, totals):
    for name, text in texts(path):
        day = day_in(name, path)
        for line in lines(text):
            parts = line.split(",")
            time = wall_time_ns(day, int(Decimal(parts[0]) * 10**6))
            if len(parts) == 6:
                totals.row("market_data/tick", time, Decimal(parts[1]) / 10000, Decimal(parts[2]))
            else:
                bid, bid_size, ask, ask_size = (Decimal(part) for part in parts[1:5])
                bids = [(bid / 10000, bid_size)] if bid or bid_size else []
                asks = [(ask / 10000, ask_size)] if ask or ask_size else []
                totals.row("market_data/quote", time, bids=bids, asks=asks)


def levels_of(pairs):
    return [(Decimal(price), Decimal(size)) for price, size in pairs]


def binance(path, totals):
    for _, text in texts(path):
        for line in lines(text):
            received, _, body = line.partition(" ")
            message = json.loads(body)
            message = message.get("data", message)
            milliseconds = message.get("T") or message.get("E")
            time = milliseconds * 10**6 if milliseconds else int(received)
            kind = message.get("e")
            if kind == "trade":
                totals.row("market_data/tick", time, Decimal(message["p"]), Decimal(message["q"]), buy=not message["m"])
            elif kind == "depthUpdate":
                totals.row("market_data/depth", time, bids=levels_of(message["b"]), asks=levels_of(message["a"]))
            elif "lastUpdateId" in message:
                totals.row("market_data/snapshot", time, bids=levels_of(message["bids"]), asks=levels_of(message["asks"]))
            elif kind in (None, "bookTicker") and "B" in message:
                totals.row("market_data/quote", time, bids=levels_of([(message["b"], message["B"])]),
                           asks=levels_of([(message["a"], message["A"])]))


def lobster(messages_path, book_path, totals):
    day = day_in(messages_path)
    messages = lines(texts(messages_path)[0][1])
    books = lines(texts(book_path)[0][1])
    assert len(messages) == len(books)
    for message, book in zip(messages, books):
        seconds, kind, _, size, price, direction = message.split(",")[:6]
        time = wall_time_ns(day, int(Decimal(seconds) * 10**9))
        price, size, buy = Decimal(price) / 10000, Decimal(size), direction == "1"
        if kind == "7":
            totals.row("orders/7", time)
        else:
            totals.row("orders/" + kind, time, price, size, buy=buy)
        if kind in "456":
            totals.row("fills/" + kind, time, price, size, buy=buy)
        numbers = [int(field) for field in book.split(",")]
        sides = {"ask": [], "bid": []}
        for at in range(0, len(numbers), 2):
            if abs(numbers[at]) != NO_LEVEL:
                level = (Decimal(numbers[at]) / 10000, Decimal(numbers[at + 1]))
                sides["ask" if at % 4 == 0 else "bid"].append(level)
        totals.row("market_data/snapshot", time, bids=sides["bid"], asks=sides["ask"])


def plain(totals):
    def text(value):
        if not isinstance(value, Decimal):
            return value
        fixed = format(value, "f")
        return fixed.rstrip("0").rstrip(".") if "." in fixed else fixed

    return {key: {name: text(value) for name, value in sums.items()} for key, sums in sorted(totals.items())}


def main():
    feed, paths = sys.argv[1], []
    for path in sys.argv[2:]:
        inside = sorted(os.path.join(path, name) for name in os.listdir(path)) if os.path.isdir(path) else [path]
        paths.extend(inside)
    files, total = {}, Totals()
    if feed == "lobster":
        jobs = [((path, path.replace("message", "orderbook")), lobster) for path in paths if "message" in path]
    else:
        jobs = [((path,), {"lean": lean, "binance": binance}[feed]) for path in paths]
    for arguments, read in jobs:
        totals = Totals()
        read(*arguments, totals)
        files[os.path.basename(arguments[0])] = plain(totals)
        total.add(totals)
    print(json.dumps({"files": files, "total": plain(total)}))


main()
