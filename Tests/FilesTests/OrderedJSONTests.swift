import Foundation
import Testing

@testable import FermataFiles

@Suite struct OrderedJSONTests {
  private func parse(_ text: String) throws -> OrderedJSON { try OrderedJSON.parse(Data(text.utf8), place: "test") }

  @Test func membersKeepTheirOrder() throws {
    let value = try parse(#" {"z": [1, {"b": null, "a": true}], "a": -2.5, "é\n": "x", "m": {}} "#)
    let inner = OrderedJSON.object([.init("b", .null), .init("a", .bool(true))])
    #expect(
      value
        == .object([
          .init("z", .array([.int(1), inner])), .init("a", .double(-2.5)), .init("é\n", .string("x")),
          .init("m", .object([])),
        ]))
    #expect(value["a"] == .double(-2.5) && value["q"] == nil && OrderedJSON.null["a"] == nil)
    #expect(try parse("3") == .int(3) && parse("[]") == .array([]) && parse("\"\"") == .string(""))
  }

  @Test func valuesOfNoOrderComeByName() {
    #expect(
      OrderedJSON(["b": 1, "a": [2.5, "x"]])
        == .object([
          .init("a", .array([.double(2.5), .string("x")])), .init("b", .int(1)),
        ]))
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,\"a\":2}", "{\"a\" 1}", "[tru]", "[01]", "\"\\ud800\"", "[1] 2", "{1:2}", "[\"\u{1}\"]",
    String(repeating: "[", count: 200) + String(repeating: "]", count: 200),
  ])
  func whatIsNoJSONIsRefused(_ text: String) { #expect(throws: JSONError.self) { try parse(text) } }
}
