import FermataFiles
import Foundation
import Testing

@testable import FermataTemplates

/// Templates against Jinja's own output, bounds for hostile ones, and errors that name the line.
@Suite struct TemplateTests {
  /// A template, what it is given, and what Jinja makes of it: a text, or nil for a refusal.
  private struct Case {
    let template: String
    let values: TemplateMapping
    let text: String?
  }

  private static func cases(_ path: String) throws -> [Case] {
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    guard case .array(let entries) = try OrderedJSON.parse(bytes, place: path) else { return [] }
    return try entries.map { entry in
      guard case .string(let template)? = entry["template"], case .object(let values)? = entry["values"] else {
        throw JSONError(place: path, problem: "a case lacks its template or values")
      }
      let text: String? = if case .string(let text)? = entry["text"] { text } else { nil }
      return Case(
        template: template, values: TemplateMapping(values.map { ($0.key, TemplateValue($0.value)) }), text: text)
    }
  }

  private static func check(_ path: String) throws -> Int {
    let cases = try cases(path)
    for item in cases {
      let text: String?
      do {
        text = try Template(item.template).render(item.values)
      } catch let error as TemplateError {
        text = nil
        if item.text != nil { Issue.record("\(error) in \(item.template.debugDescription)") }
      }
      #expect(text == item.text, "\(item.template.debugDescription)")
    }
    return cases.count
  }

  @Test func rendersAsJinjaDoes() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "../Goldens/templates.json")
    #expect(try Self.check(path.path) > 70)
  }

  /// Templates of others, with a document that `Scripts/golden/make_templates.py FILE…` printed.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["FERMATA_TEMPLATES"] != nil))
  func rendersOthersTemplates() throws {
    let path = try #require(ProcessInfo.processInfo.environment["FERMATA_TEMPLATES"])
    print("templates of others: \(try Self.check(path)) cases")
  }

  @Test(arguments: [
    ("{{ a", "no end"), ("{% if x %}", "'endif'"), ("{% endfor %}", "tag 'endfor'"), ("{{ 1 + }}", "expression"),
    ("{{ 'a }}", "quote"), ("{% for x %}", "'in'"), ("{% nothing %}", "tag 'nothing'"), ("{{ x | }}", "name"),
    ("\n\n{{ ) }}", "line 3"), ("{{ 99999999999999999999999999e999 }}", "too large"), ("{% raw %}", "endraw"),
    ("{# a", "comment"),
  ])
  func namesWhatCannotBeRead(_ template: String, _ problem: String) throws {
    let error = #expect(throws: TemplateError.self) { try Template(template) }
    #expect(error?.description.contains(problem) == true, "\(error?.description ?? "")")
  }

  @Test(arguments: [
    ("{{ x.y }}", "'x' is undefined"), ("{{ x() }}", "cannot be called"), ("{{ 1 / 0 }}", "division"),
    ("{{ 9223372036854775807 + 1 }}", "too large"), ("{{ 1 | nope }}", "filter 'nope'"),
    ("{{ 1 is nope }}", "test 'nope'"),
    ("{{ 'a' + 1 }}", "does not fit"), ("\n{{ raise_exception('no ' ~ 1) }}", "line 2: no 1"),
    ("{{ [].append(1) }}", "cannot be changed"), ("{{ 1 < 'a' }}", "no order"),
  ])
  func namesWhatFails(_ template: String, _ problem: String) throws {
    let read = try Template(template)
    let error = #expect(throws: TemplateError.self) { try read.render([:]) }
    #expect(error?.description.contains(problem) == true, "\(error?.description ?? "")")
  }

  @Test(arguments: [
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 99999999999 }}", "{{ [0] * 99999999999 }}", "{{ range(999999) }}", "{{ 2 ** 99999999 }}",
    "{{ range(9223372036854775807, -9223372036854775807) }}",
    "{% set x = 'aaaaaaaa' * 1000000 %}{% for i in range(99) %}{{ x }}{% endfor %}",
    "{{ [] * 9000000000000000000 }}", "{{ '' * 9000000000000000000 }}",
    "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(9999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a == ns.a }}",
    "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set x = 'a' * 100000 %}{{ x.replace('a', x).replace('a', x) }}",
    "{% macro f(x) %}{{ f([x, x]) }}{% endmacro %}{{ f(1) }}",
    "{{ 1" + String(repeating: "+1", count: 9_999) + " }}", "{{ x" + String(repeating: ".a", count: 9_999) + " }}",
    "{{ (-9223372036854775807 - 1) // -1 }}", "{{ -(-9223372036854775807 - 1) }}", "{{ 'a'[::0] }}",
    "{{ " + String(repeating: "(", count: 5_000) + "1" + String(repeating: ")", count: 5_000) + " }}",
    String(repeating: "{% if 1 %}", count: 5_000),
  ])
  func hostileTemplatesEndInAnError(_ template: String) {
    #expect(throws: TemplateError.self) { try Template(template).render([:]) }
  }

  /// Templates cut and mutated at random: an error or a text, never a crash.
  @Test func mutatedTemplatesNeverCrash() throws {
    var state = UInt64(ProcessInfo.processInfo.environment["FERMATA_TEST_SEED"] ?? "1") ?? 1
    func draw(_ below: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % max(1, below)
    }
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "../Goldens/templates.json")
    let pieces = [
      "{{", "}}", "{%", "%}", "-", "'", "(", ")", "[", "]", ":", "|", ".", "if", "for", "in", "9", "~", "is", "{#", "é",
    ]
    for item in try Self.cases(path.path) {
      for _ in 0..<20 {
        var scalars = Array(item.template.unicodeScalars)
        for _ in 0..<1 + draw(3) {
          let place = draw(scalars.count)
          let end = min(scalars.count, place + draw(4))
          scalars.replaceSubrange(place..<end, with: Array(pieces[draw(pieces.count)].unicodeScalars))
        }
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        _ = try? Template(String(view)).render(item.values)
      }
    }
  }
}
