package main

import (
	"fmt"
	"math/rand"
	"strings"
)

type generator struct{ *rand.Rand }

func (g *generator) of(all ...string) string { return all[g.Intn(len(all))] }

var scalars = []string{
	"a", "web", "80", "0755", "0o17", "0x1F", "0b11", "08", "1_000", "-3", "+4", "1.5", "1e3", "1E+3", ".5", "5.", "-.5", "1.", "0.0", "12e03",
	"yes", "no", "on", "off", "y", "n", "true", "False", "TRUE", "~", "null", "Null", "NULL", "2001-01-01", "2001-01-01T00:00:00Z", "1:30", "12:30:45", "100m", "1Gi",
	"a b c", "a:b", "http://x:80/y", "a#b", "a #c", "-a", "- a", ":a", "?a", "a:", "*x", "&x a", "@a", "`a`", "%a", "!a", "!!str 1", "!!int '3'", "!!bool 'true'",
	"!!null ''", "!!float 1", "!!binary aGk=", "!custom a", "!!str", "|", ">", "'a'", "\"a\"", "''", "\"\"", "'it''s'", "\"\\x41\\u00e9\\t\\n\"", "\"\\/\"", "\"\\e\\_\\N\"", "\"\\q\"",
	"[a, b]", "[a, b,]", "[]", "{}", "{a: 1}", "{a: 1,}", "{a, b: }", "{\"a\":1}", "{a:1}", "[a: b]", "[a, [b]]", "{a: {b: c}}", "[,]", "{,}", "[a b]", "{a: b c}", "[\"a\":b]",
	"[a]b", "{a: b} c", "'a' b", "\"a\" b", "'a':b", "é", "a\tb", "\ta", "a\t", ".inf", ".nan", "-.inf", ".", "..", "=", "<<", "_", "_1", "1_", "0_7", "00", "0", "-0", "-", "--", "+", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e400",
	"0x", "0b", "0o8", "-0x1f", "-0b1", "0777777777777777777777777", "1.2.3", "1e", "e1", "#", "# c", "a # c", "\"a\" # c", "a  ", "[a, # c\n  b]",
}

var keys = []string{"a", "b", "c", "name", "image", "key with blanks", "\"q\"", "'q'", "1", "1.5", "true", "yes", "~", "null", "a.b/c", "<<", "-a", "a#b", "é", "? k", "[a]", "{a: b}", "!!str d", "&k e", "0x10", "07"}

func (g *generator) document() string {
	var b strings.Builder
	switch g.Intn(14) {
	case 0:
		b.WriteString(g.of("---\n", "--- # c\n", "# c\n", "%YAML 1.1\n---\n", "\n\n", "\ufeff", "--- a\n", "---\t\n", "%FOO\n---\n"))
	}
	b.WriteString(g.mapping(0, 2))
	if g.Intn(8) == 0 {
		b.WriteString(g.of("---\n", "---\nx: y\n", "...\n", "...\nx: y\n", "---\n---\n", "--- \nz: 1\n", "---# c\n", "---a\n", " ---\n"))
	}
	text := b.String()
	switch g.Intn(30) {
	case 0:
		text = strings.ReplaceAll(text, "\n", "\r\n")
	case 1:
		text = strings.TrimRight(text, "\n")
	case 2:
		text = strings.Replace(text, "  ", "\t", 1)
	case 3:
		text = strings.Replace(text, ": ", ":\t", 1)
	case 4:
		text = strings.Replace(text, ": ", " : ", 1)
	case 5:
		text = strings.Replace(text, "\n", " # c\n", 1)
	case 6:
		text = strings.Replace(text, "\n", "\t# c\n", 1)
	}
	return text
}

func (g *generator) mapping(indent, depth int) string {
	var b strings.Builder
	pad := strings.Repeat(" ", indent)
	for i := range 1 + g.Intn(3) {
		key := string(rune('a' + i))
		if g.Intn(10) == 0 {
			key = keys[g.Intn(len(keys))]
		}
		b.WriteString(pad + key + ":" + g.value(indent, depth))
		if g.Intn(12) == 0 {
			b.WriteString(g.of("\n", pad+"# c\n", "# c\n", "\t\n", "  \n", pad+"\t# c\n"))
		}
	}
	return b.String()
}

func (g *generator) sequence(indent, depth int) string {
	var b strings.Builder
	pad := strings.Repeat(" ", indent)
	for range 1 + g.Intn(3) {
		switch g.Intn(6) {
		case 0:
			b.WriteString(pad + "- k: 1\n" + pad + "  l:" + g.value(indent+2, depth))
		case 1:
			b.WriteString(pad + "- - x\n" + pad + "  - y\n")
		case 2:
			b.WriteString(pad + "-\n" + pad + "  k: v\n")
		default:
			b.WriteString(pad + "-" + g.value(indent, depth))
		}
	}
	return b.String()
}

// value is all behind a key's colon, to the end of its lines.
func (g *generator) value(indent, depth int) string {
	if depth > 0 {
		switch g.Intn(6) {
		case 0:
			return "\n" + g.mapping(indent+1+g.Intn(3), depth-1)
		case 1:
			return "\n" + g.sequence(indent+g.Intn(3), depth-1)
		}
	}
	at := func(n int) string { return strings.Repeat(" ", max(0, n)) }
	near := func() string { return at(indent - 1 + g.Intn(4)) }
	switch g.Intn(14) {
	case 0, 1:
		quote := g.of("\"", "'")
		lines := []string{" " + quote + g.of("", "a", "a b ")}
		for range 1 + g.Intn(3) {
			lines = append(lines, g.of(near(), near(), near()+"\t", "", "\t")+g.of("b", "-Dx=y", "# no", "c: d", "- e", "", "--- f", "..."))
		}
		if g.Intn(2) == 0 {
			lines = append(lines, near())
		}
		return strings.Join(lines, "\n") + quote + "\n"
	case 2, 3:
		head := " " + g.of("|", ">", "|-", ">-", "|+", ">+", "|2", "|1-", ">2+", "| # c", "|9", "|0")
		lines := []string{head}
		inner := at(indent + 1 + g.Intn(2))
		for range g.Intn(4) {
			lines = append(lines, g.of(inner, inner, inner, inner+" ", near(), "")+g.of("b", "c: d", "# no", "", "\tx", "- e"))
		}
		return strings.Join(lines, "\n") + "\n" + g.of("", "", "\n", "\n\n", at(indent)+"# c\n")
	case 4:
		lines := []string{" " + g.of("a", "a b", "[a,", "{a: 1,", "[", "{", "")}
		for range 1 + g.Intn(2) {
			lines = append(lines, near()+g.of("b", "c d", "# c", "e: f", "]", "}", "b: 2}", "b]", "- g"))
		}
		return strings.Join(lines, "\n") + "\n"
	case 5:
		return fmt.Sprintf(" &x %s\n%sz: *x\n", scalars[g.Intn(len(scalars))], at(indent))
	case 6:
		return fmt.Sprintf(" &m {p: 1, q: 2}\n%sz:\n%s  <<: %s\n%s  q: 3\n", at(indent), at(indent), g.of("*m", "[*m, {r: 4}]", "*m", "*none", "{s: 5}", "7"), at(indent))
	default:
		return " " + scalars[g.Intn(len(scalars))] + "\n"
	}
}

// known are texts that are odd in ways of their own.
func known() []string {
	return []string{
		"a: \"\nb\n  \"\n", "a:\n- b: \"\n  c\n    \"\n", "a: 'x\ny'\n", "a: \"x\n\n\ny\"\nb: 1\n", "- \"a\nb\"\n", "\"a\nb\"\n", "a: \"x\\\ny\"\n", "a: {b: \"x\ny\"}\n",
		"a: 1\na: 2\n", "a: &x 1\nb: *x\n---\nc: *x\n", "a: *x\n", "? a\n: b\n", "? [a]\n: b\n", "{a: 1, a: 2}\n", "a:\n  b: 1\n c: 2\n", "a: b: c\n", "a: [b\n", "a: 'b\n", "\ta: b\n", "a:\n\tb: c\n",
		"a: b\n\tc\n", "a: |\n\tb\n", "", "\n", "# c\n", "---\n", "null\n", "a\n", "- a\n", "1\n", "{\"a\": 1}{\"b\": 2}", "{\"a\": 1}\n{\"b\": 2}\n", "{\"a\": 1}\n---\nb: 2\n", "[1, 2]", "{\"a\": 01}", "{\"a\": \"\\u00e9\\/\"}",
		"{\"a\": 1,}", "{a: 1}\n---\n{b: 2}\n", "a: b\n...\nc: d\n", "a: b\n---\n- c\n", "%YAML 1.2\n---\na: b\n", "%YAML 1.1\na: b\n", "%TAG ! tag:x,2000:\n---\na: !b c\n", "a: !<tag:yaml.org,2002:str> 1\n", "a: !!set {b}\n", "a: !!omap [b: c]\n",
		"a: !!timestamp 2001-01-01\n", "a: !!int x\n", "a: !!float x\n", "a: !!bool x\n", "a: !!binary '*'\n", "!!map {a: b}\n", "a: !!seq [b]\n", "a: !!seq {b: c}\n", "a: !!str [b]\n", "<<: {a: 1}\nb: 2\n", "<<: [{a: 1}, {a: 2}]\n", "'<<': {a: 1}\n",
		"a: &x\n  <<: *x\n", "a: &x [*x]\n", "a: &a b: c\n", "&a b: c\n", "&a\nb: c\n", "*a : b\n", "&a b: c\n*a : d\n", "a: \"\\ud83d\\ude00\"\n", "a: \"\\ud83d\"\n", "a: \"\\U0001F600\"\n", "a: \x00\n", "a: \x07\n", "a: \x7f\n", "a: \u0085b\n",
		strings.Repeat("k", 1030) + ": v\n", "\"" + strings.Repeat("k", 1030) + "\": v\n", "a: " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "\n", "a:    # c\n  b\n", "a: b # c\n# d\n  e: f\n", "a: b\n # c\nd: e\n", "a:\n# c\n  b: c\n", "a: >\n  b\n   c\n  d\n\n\n  e\n",
		"a: >-\n\n  b\n", "a: |+\n  b\n\n\nc: d\n", "a: |\n  b\n # c\nd: e\n", "a: |\n    b\n  c\n", "a: |2\n    b\n   c\n", "- |\n b\n- c\n", "- - - a\n", "-\n  - a\n", "- \n- a\n", "-a\n", "a:\n-\n- b\n", "a:\n- b\nc: d\n", "a: - b\n", "a: 1 # x\n---\n# y\n---\nb: 2\n",
		"a: b\r\nc: d\r\n", "a: b\rc: d\r", "\ufeffa: b\n", "a: \ufeffb\n", "---\n\ufeffa: b\n", "a: {b: c, d}\n", "a: {b: [c, {d: e}]}\n", "a: [b: c, d: e]\n", "a: [? b : c]\n", "a: {? b : c}\n", "a: {b:}\n", "a: {b: }\n", "a: {'b':c}\n", "a: {\"b\":c}\n", "a: [b,c]\n", "a: [b ,c]\n", "a: [-1, - 1]\n", "a: [a?b, ?c]\n", "a: http://b\n", "a: {b: http://c}\n", "a: [http://c]\n", "a: {http://c}\n",
		"a: !\n", "a: ! b\n", "a: !!\n", "a: !b!c d\n", "a: &\n", "a: & b\n", "a: *\n", "a: &b\n", "a: &b &c d\n", "a: &b !!str 1\n", "a: !!str &b 1\n", "a: @b\n", "a: %b\n", "a: b%\n", "%: a\n", "a: ,b\n", "a: ]b\n", "a: b]\n", "a: b,c\n", "a: {b,c}\n",
	}
}
