// A producer in C++: flatc's generated builders, a Unix socket, nothing of the recorder's. See README.md.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "backtest_runs_generated.h"
#include "fills_generated.h"
#include "latency_spans_generated.h"
#include "market_data_generated.h"
#include "orders_generated.h"
#include "risk_log_generated.h"

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

enum class Case { absent, defaults_written, defaults_omitted, min, max, nan, negative_zero, bytes, arrays, random };
static const char *const kCaseNames[] = {"absent", "defaults_written", "defaults_omitted", "min",    "max",
                                         "nan",    "negative_zero",    "bytes",            "arrays", "random"};
static const int kFixedCases = 9;

/// splitmix64
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
};

static double from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

static std::string float_text(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  char text[32];
  snprintf(text, sizeof text, "\"bits:%016" PRIx64 "\"", bits);
  return text;
}

/// Gives each field of a frame its value, and writes down what must be stored.
class Frame {
 public:
  Frame(FlatBufferBuilder &builder, Case which, Random &random) : fbb(builder), which_(which), random_(random) {
    fbb.Clear();
    fbb.ForceDefaults(which == Case::defaults_written || which == Case::negative_zero || which == Case::min);
  }

  Offset<flatbuffers::String> string(const char *name) {
    std::string value;
    if (!pick_string(value)) {
      note(name, "\"hex:\"");
      return 0;
    }
    note(name, hex(value));
    return fbb.CreateString(value);
  }

  /// As string(), for a field whose absence is NULL.
  Offset<flatbuffers::String> nullable_string(const char *name) {
    std::string value;
    if (!pick_string(value)) {
      note(name, "null");
      return 0;
    }
    note(name, hex(value));
    return fbb.CreateString(value);
  }

  Offset<flatbuffers::Vector<int64_t>> array(const char *name) {
    std::vector<int64_t> values;
    bool present = true;
    switch (which_) {
      case Case::absent: present = false; break;
      case Case::min: values = {INT64_MIN}; break;
      case Case::max: values = {INT64_MAX, INT64_MIN, -1, 0, 1}; break;
      case Case::arrays:
        for (int i = 0; i < 10000; i++) values.push_back(static_cast<int64_t>(random_.next()));
        break;
      case Case::random:
        present = random_.below(8) != 0;
        for (uint64_t i = random_.below(6); present && i > 0; i--) values.push_back(integer<int64_t>());
        break;
      default: break;
    }
    std::string text = "[";
    for (size_t i = 0; i < values.size(); i++) text += (i ? ",\"" : "\"") + std::to_string(values[i]) + "\"";
    note(name, text + "]");
    return present ? fbb.CreateVector(values) : Offset<flatbuffers::Vector<int64_t>>(0);
  }

  template <class T, class Add>
  void scalar(const char *name, Add add) {
    if (absent()) return note(name, "\"0\"");
    T value = integer<T>();
    note(name, "\"" + std::to_string(value) + "\"");
    add(value);
  }

  /// A field with the default null.
  template <class T, class Add>
  void optional(const char *name, Add add) {
    if (absent()) return note(name, "null");
    T value = integer<T>();
    note(name, "\"" + std::to_string(value) + "\"");
    add(value);
  }

  /// An enum: values that the schema does not know are values too.
  template <class E, class Add>
  void enumeration(const char *name, Add add) {
    scalar<uint8_t>(name, [&](uint8_t value) { add(static_cast<E>(value)); });
  }

  template <class Add>
  void boolean(const char *name, bool is_optional, Add add) {
    if (absent()) return note(name, is_optional ? "null" : "\"0\"");
    bool value = which_ == Case::max || (which_ == Case::random && random_.below(2) == 1);
    note(name, value ? "\"1\"" : "\"0\"");
    add(value);
  }

  /// Days since 1970; a Date32 stores every int32, also beyond the years that it shows (1900 to 2299).
  template <class Add>
  void optional_date(const char *name, Add add) {
    if (absent()) return note(name, "null");
    int32_t value = 0;
    if (which_ == Case::min) value = std::numeric_limits<int32_t>::min();
    if (which_ == Case::max) value = std::numeric_limits<int32_t>::max();
    if (which_ == Case::random) value = static_cast<int32_t>(random_.next());
    note(name, "\"" + std::to_string(value) + "\"");
    add(value);
  }

  template <class Add>
  void real(const char *name, bool is_optional, Add add) {
    if (absent()) return note(name, is_optional ? "null" : float_text(0.0));
    double value = real_value();
    note(name, float_text(value));
    add(value);
  }

  const std::string &values() const { return values_; }
  FlatBufferBuilder &fbb;

 private:
  bool absent() { return which_ == Case::absent || (which_ == Case::random && random_.below(5) == 0); }

  bool pick_string(std::string &value) {
    switch (which_) {
      case Case::absent: return false;
      case Case::bytes: {
        static const std::string kTexts[] = {std::string("\xff\xfe\x00\xc3\x28", 5), std::string("\0", 1),
                                             "\xed\xa0\x80", "\"quote\"\\\n\t", "\xf0\x9f\x93\x88 gr\xc3\xbc\xc3\x9f",
                                             std::string(70000, '\x80')};
        value = kTexts[random_.below(6)];
        return true;
      }
      case Case::min: case Case::max: value = "x"; return true;
      case Case::random:
        if (random_.below(6) == 0) return false;
        for (uint64_t i = random_.below(24); i > 0; i--) value.push_back(static_cast<char>(random_.next()));
        return true;
      default: return true;
    }
  }

  template <class T>
  T integer() {
    switch (which_) {
      case Case::min: return std::numeric_limits<T>::min();
      case Case::max: return std::numeric_limits<T>::max();
      case Case::random:
        // Small and large values alike.
        return static_cast<T>(static_cast<int64_t>(random_.next()) >> random_.below(64));
      default: return 0;
    }
  }

  double real_value() {
    static const uint64_t kNans[] = {0x7ff8000000012345ull, 0xfff8000000abcdefull, 0x7ff0000000000001ull,
                                     0xfff7ffffffffffffull};
    switch (which_) {
      case Case::min: return -std::numeric_limits<double>::infinity();
      case Case::max: return std::numeric_limits<double>::infinity();
      case Case::nan: return from_bits(kNans[nan_++ % 4]);
      case Case::negative_zero: return -0.0;
      case Case::bytes: return std::numeric_limits<double>::denorm_min();
      case Case::arrays: return std::numeric_limits<double>::max();
      case Case::random: return from_bits(random_.next());
      default: return 0.0;
    }
  }

  static std::string hex(const std::string &value) {
    std::string text = "\"hex:";
    char digits[3];
    for (unsigned char byte : value) {
      snprintf(digits, sizeof digits, "%02x", byte);
      text += digits;
    }
    return text + "\"";
  }

  void note(const char *name, const std::string &json) {
    values_ += std::string(values_.empty() ? "" : ",") + "\"" + name + "\":" + json;
  }

  Case which_;
  Random &random_;
  std::string values_;
  unsigned nan_ = 0;
};

#define STRING(name) auto name = f.string(#name)
#define ARRAY(name) auto name = f.array(#name)
#define ADD(name) \
  if (!name.IsNull()) b.add_##name(name)
#define SCALAR(type, name) f.scalar<type>(#name, [&](type v) { b.add_##name(v); })
#define OPTIONAL(type, name) f.optional<type>(#name, [&](type v) { b.add_##name(v); })
#define ENUM(type, name) f.enumeration<type>(#name, [&](type v) { b.add_##name(v); })
#define REAL(name) f.real(#name, false, [&](double v) { b.add_##name(v); })

static void market_data(Frame &f) {
  STRING(symbol); STRING(exchange); STRING(conditions); STRING(underlying);
  ARRAY(bid_prices); ARRAY(bid_sizes); ARRAY(ask_prices); ARRAY(ask_sizes);
  hft::MarketDataBuilder b(f.fbb);
  ADD(symbol); ADD(exchange); ADD(conditions); ADD(underlying);
  ADD(bid_prices); ADD(bid_sizes); ADD(ask_prices); ADD(ask_sizes);
  ENUM(hft::MarketDataKind, kind);
  SCALAR(int64_t, exch_ts); OPTIONAL(int64_t, local_ts); SCALAR(int64_t, price); SCALAR(int64_t, volume);
  SCALAR(uint64_t, exch_seq); SCALAR(uint64_t, exch_seq_first); SCALAR(uint64_t, exch_seq_prev);
  SCALAR(uint64_t, trade_id);
  ENUM(hft::Side, trade_side);
  f.boolean("suspicious", false, [&](bool v) { b.add_suspicious(v); });
  ENUM(hft::InstrumentType, instrument_type);
  OPTIONAL(int64_t, strike);
  ENUM(hft::OptionRight, option_right);
  f.optional_date("expiry", [&](int32_t v) { b.add_expiry(v); });
  hft::FinishSizePrefixedMarketDataBuffer(f.fbb, b.Finish());
}

static void orders(Frame &f) {
  STRING(order_id); STRING(client_order_id); STRING(strategy_id); STRING(symbol); STRING(exchange); STRING(reason);
  STRING(trace_id); STRING(feature_snapshot_id); STRING(risk_decision_id); STRING(strategy_version);
  STRING(config_hash); STRING(git_sha); STRING(data_session_id);
  hft::OrderBuilder b(f.fbb);
  ADD(order_id); ADD(client_order_id); ADD(strategy_id); ADD(symbol); ADD(exchange); ADD(reason); ADD(trace_id);
  ADD(feature_snapshot_id); ADD(risk_decision_id); ADD(strategy_version); ADD(config_hash); ADD(git_sha);
  ADD(data_session_id);
  ENUM(hft::Side, side); ENUM(hft::OrderType, order_type); ENUM(hft::TimeInForce, time_in_force);
  ENUM(hft::OrderStatus, status);
  OPTIONAL(int64_t, price); OPTIONAL(int64_t, stop_price); SCALAR(int64_t, qty); SCALAR(int64_t, filled_qty);
  SCALAR(int64_t, exch_ts); SCALAR(int64_t, local_ts); SCALAR(int64_t, latency_ns);
  hft::FinishSizePrefixedOrderBuffer(f.fbb, b.Finish());
}

static void fills(Frame &f) {
  STRING(fill_id); STRING(order_id); STRING(client_order_id); STRING(broker_order_id); STRING(strategy_id);
  STRING(symbol); STRING(exchange); STRING(trace_id); STRING(feature_snapshot_id); STRING(risk_decision_id);
  STRING(strategy_version); STRING(config_hash); STRING(git_sha); STRING(data_session_id);
  hft::FillBuilder b(f.fbb);
  ADD(fill_id); ADD(order_id); ADD(client_order_id); ADD(broker_order_id); ADD(strategy_id); ADD(symbol);
  ADD(exchange); ADD(trace_id); ADD(feature_snapshot_id); ADD(risk_decision_id); ADD(strategy_version);
  ADD(config_hash); ADD(git_sha); ADD(data_session_id);
  ENUM(hft::Side, side); ENUM(hft::Liquidity, liquidity);
  SCALAR(int64_t, price); SCALAR(int64_t, qty); SCALAR(int64_t, fee); SCALAR(int64_t, tax);
  OPTIONAL(int64_t, decision_price); OPTIONAL(int64_t, arrival_price);
  SCALAR(int64_t, match_ts); SCALAR(int64_t, local_ts);
  hft::FinishSizePrefixedFillBuffer(f.fbb, b.Finish());
}

static void risk_log(Frame &f) {
  STRING(risk_decision_id); STRING(strategy_id); STRING(symbol); STRING(rule); STRING(reason_code); STRING(metric);
  STRING(trace_id);
  auto context = f.nullable_string("context");
  hft::RiskLogBuilder b(f.fbb);
  ADD(risk_decision_id); ADD(strategy_id); ADD(symbol); ADD(rule); ADD(reason_code); ADD(metric); ADD(trace_id);
  ADD(context);
  SCALAR(int64_t, ts);
  f.boolean("approved", true, [&](bool v) { b.add_approved(v); });
  ENUM(hft::Side, side);
  REAL(value);
  f.real("limit_value", true, [&](double v) { b.add_limit_value(v); });
  OPTIONAL(int64_t, price); OPTIONAL(int64_t, qty);
  hft::FinishSizePrefixedRiskLogBuffer(f.fbb, b.Finish());
}

static void backtest_runs(Frame &f) {
  STRING(run_id); STRING(strategy_id); STRING(git_commit); STRING(config_hash); STRING(config_json);
  hft::BacktestRunBuilder b(f.fbb);
  ADD(run_id); ADD(strategy_id); ADD(git_commit); ADD(config_hash); ADD(config_json);
  SCALAR(int64_t, start_ts); SCALAR(int64_t, end_ts);
  REAL(total_pnl); REAL(sharpe_ratio); REAL(max_drawdown); REAL(win_rate); REAL(total_turnover);
  SCALAR(uint64_t, total_trades);
  REAL(runtime_seconds);
  SCALAR(int64_t, created_at);
  hft::FinishSizePrefixedBacktestRunBuffer(f.fbb, b.Finish());
}

static void latency_spans(Frame &f) {
  STRING(trace_id); STRING(stage); STRING(strategy_id); STRING(symbol);
  hft::LatencySpanBuilder b(f.fbb);
  ADD(trace_id); ADD(stage); ADD(strategy_id); ADD(symbol);
  SCALAR(int64_t, ts); SCALAR(int64_t, latency_ns);
  hft::FinishSizePrefixedLatencySpanBuffer(f.fbb, b.Finish());
}

struct Topic {
  const char *name;
  void (*build)(Frame &);
};
static const Topic kTopics[] = {{"market_data", market_data}, {"orders", orders},
                                {"fills", fills},             {"risk_log", risk_log},
                                {"backtest_runs", backtest_runs}, {"latency_spans", latency_spans}};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int connect_unix(const char *path) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address.sun_path) {
    fprintf(stderr, "socket path too long\n");
    exit(1);
  }
  strcpy(address.sun_path, path);
  if (connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) < 0) fail("connect");
  return fd;
}

static void write_all(int fd, const uint8_t *bytes, size_t size) {
  while (size > 0) {
    ssize_t written = write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: producer SOCKET [--rows N] [--seed N]\n");
    return 2;
  }
  long rows = 600;
  Random random{1};
  for (int i = 2; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--rows") == 0) rows = atol(argv[i + 1]);
    if (strcmp(argv[i], "--seed") == 0) random.state = strtoull(argv[i + 1], nullptr, 10);
  }
  int fd = connect_unix(argv[1]);
  FlatBufferBuilder builder;
  for (long row = 0; row < rows; row++) {
    const Topic &topic = kTopics[row % 6];
    long turn = row / 6;
    Case which = turn < kFixedCases ? static_cast<Case>(turn) : Case::random;
    Frame frame(builder, which, random);
    topic.build(frame);
    write_all(fd, builder.GetBufferPointer(), builder.GetSize());
    printf("{\"seq\":%ld,\"topic\":\"%s\",\"case\":\"%s\",\"values\":{%s}}\n", row + 1, topic.name,
           kCaseNames[static_cast<int>(which)], frame.values().c_str());
  }
  close(fd);
  return 0;
}
