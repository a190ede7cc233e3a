package docs

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Name is what a page has in backquotes.
type Name struct {
	Place string
	Text  string
}

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	// spec.output.image, registries[].caRef, builder.egress.allow
	path = regexp.MustCompile(`^[a-z][A-Za-z]*(\[\])?(\.[a-z][A-Za-z]*(\[\])?)+$`)
	// steps.rs, cache.db
	file = regexp.MustCompile(`\.(rs|db|tar|json|yaml|html|crt)$`)
	// the certificate of registry HOST is not trusted: no command, and three words at least
	message = regexp.MustCompile(`^[a-zA-Z][^ ]*( [^ ]+){2,}$`)
	// What stands for others' words in a message.
	gap = regexp.MustCompile(`HOST|NAME|…|default|: |[0-9]+`)
	// A string of Rust that goes on in the next line.
	continued = regexp.MustCompile(`\\\n\s*`)
	// PushDenied, WaitingForBuilder
	reason = regexp.MustCompile(`^[A-Z][a-z0-9]+([A-Z][a-z0-9]+)+$`)
)

// names are the texts in backquotes, outside of fences, that have this form.
func names(page, place string, form *regexp.Regexp) (found []Name) {
	fenced := false
	for i, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			continue
		}
		for _, match := range quoted.FindAllStringSubmatch(line, -1) {
			if form.MatchString(match[1]) && !file.MatchString(match[1]) {
				found = append(found, Name{place + ":" + strconv.Itoa(i+1), match[1]})
			}
		}
	}
	return found
}

// Schema is a JSON schema, and what its references point to.
type Schema struct {
	Value       map[string]any
	Definitions map[string]any
}

// at is a part of it, behind a reference too.
func (s Schema) at(value any) (Schema, bool) {
	part, ok := value.(map[string]any)
	if to, is := part["$ref"].(string); is {
		part, ok = s.Definitions[strings.TrimPrefix(to, "#/definitions/")].(map[string]any)
	}
	return Schema{part, s.Definitions}, ok
}

// has says whether there is a field at this path: of objects and of the items of lists. What has no properties of its own takes any.
func (s Schema) has(steps []string) bool {
	if items, ok := s.at(s.Value["items"]); ok {
		return items.has(steps)
	}
	if len(steps) == 0 {
		return true
	}
	properties, ok := s.Value["properties"].(map[string]any)
	if !ok {
		return s.Value["type"] == "object"
	}
	next, ok := s.at(properties[strings.TrimSuffix(steps[0], "[]")])
	return ok && next.has(steps[1:])
}

// judge says whether a path begins as one of ours does, and whether one of the schemas has all of it. Others begin otherwise: names of
// hosts, files, groups.
func judge(schemas []Schema, text string) (ours, known bool) {
	steps := strings.Split(text, ".")
	has := func(steps []string) bool {
		return slices.ContainsFunc(schemas, func(schema Schema) bool { return schema.has(steps) })
	}
	return has(steps[:1]), has(steps)
}
