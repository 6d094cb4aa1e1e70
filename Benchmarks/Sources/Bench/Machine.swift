import CFermataKernels
import Fermata
import Foundation

/// What the machine can do, measured in the same run: figures of different days are compared as shares of it.
struct Machine: Codable {
  var processor: String
  var features: String
  var path: String
  var threads: Int
  var date: String
  /// Bytes read and written a second, copying memory that exists.
  var copyRate: Double
  /// Floating-point operations a second of products, by shape and type.
  var productRates: [String: Double]

  /// The best rate of products in a type.
  func productRate(_ dtype: DType) -> Double {
    productRates.filter { $0.key.hasSuffix(dtype.short) }.map(\.value).max() ?? .nan
  }

  func share(of work: MachineWork, in seconds: Double) -> Double {
    switch work {
    case .bytes(let bytes): bytes / seconds / copyRate
    case .flops(let flops, let dtype): flops / seconds / productRate(dtype)
    }
  }

  static func measured() throws -> Machine {
    var rates: [String: Double] = [:]
    for dtype in [DType.float32, .bfloat16] {
      for (rows, inner, columns) in [(8192, 256, 768), (8192, 704, 256)] {
        rates["\(rows) × \(inner) × \(columns) \(dtype.short)"] = try product(rows, inner, columns, dtype)
      }
    }
    let day = Date().formatted(.iso8601.year().month().day())
    return Machine(
      processor: processorName, features: String(cString: fm_features()),
      path: fm_path_name(fm_path()).map { String(cString: $0) } ?? "?", threads: Int(fm_threads()), date: day,
      copyRate: copyRate(), productRates: rates)
  }

  private static func product(_ rows: Int, _ inner: Int, _ columns: Int, _ dtype: DType) throws -> Double {
    var random = RandomSource(seed: 1)
    let x = try random.normal([rows, inner]).cast(to: dtype)
    let weight = try random.normal([columns, inner]).cast(to: dtype)
    let times = try (0..<12).map { _ in try seconds { _ = try matmul(x, weight.transposed(0, 1)) } }
    return 2 * Double(rows * inner * columns) / (times.min() ?? .nan)
  }

  /// Each thread copies its part of 128 MiB with the C library's memcpy; the best of several.
  private static func copyRate() -> Double {
    let bytes = 128 << 20
    let (from, to) = (Buffer(bytes), Buffer(bytes))
    memset(from.start, 1, bytes)
    memset(to.start, 2, bytes)
    var job = CopyJob(from: from.start, to: to.start, part: bytes / Int(fm_threads()))
    let times = (0..<12).map { _ in
      seconds {
        fm_parallel(Int64(fm_threads()), { CopyJob.run($0, Int($1)) }, &job)
      }
    }
    withExtendedLifetime((from, to)) {}
    return 2 * Double(job.part * Int(fm_threads())) / (times.min() ?? .nan)
  }

  private static var processorName: String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
  }
}

private struct CopyJob {
  let from, to: UnsafeMutableRawPointer
  let part: Int

  static func run(_ context: UnsafeMutableRawPointer?, _ index: Int) {
    guard let job = context?.assumingMemoryBound(to: CopyJob.self).pointee else { return }
    memcpy(job.to + index * job.part, job.from + index * job.part, job.part)
  }
}

/// Memory for kernels that write into what exists.
final class Buffer {
  let start: UnsafeMutableRawPointer
  private let bytes: Int

  init(_ bytes: Int) {
    self.bytes = bytes
    start = fm_map_memory(bytes) ?? UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 4096)
  }

  deinit { fm_unmap_memory(start, bytes) }

  var floats: UnsafeMutablePointer<Float> { start.assumingMemoryBound(to: Float.self) }
}

/// Seconds that the body takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try body()
  let duration = start.duration(to: .now).components
  return Double(duration.seconds) + Double(duration.attoseconds) * 1e-18
}
