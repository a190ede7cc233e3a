package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// A value of the kustomize base stands within texts, too: in the settings, and in expressions of policies. kustomize can put another
// one there only by counting: so what is counted is generated, and what is changed by hand is nothing.

// Component is a kustomization of kind Component.
type Component struct {
	APIVersion         string        `json:"apiVersion"`
	Kind               string        `json:"kind"`
	ConfigMapGenerator []Generator   `json:"configMapGenerator,omitempty"`
	Replacements       []Replacement `json:"replacements"`
}

// Generator is a ConfigMap that is not installed: parts of texts.
type Generator struct {
	Name     string         `json:"name"`
	Literals []string       `json:"literals"`
	Options  map[string]any `json:"options"`
}

// Replacement puts a value into fields.
type Replacement struct {
	Source  Source   `json:"source"`
	Targets []Target `json:"targets"`
}

// Source is where the value is.
type Source struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	FieldPath string `json:"fieldPath"`
}

// Target is a field, or the part of it at an index.
type Target struct {
	Select     map[string]string `json:"select"`
	FieldPaths []string          `json:"fieldPaths"`
	Options    *Options          `json:"options,omitempty"`
}

// Options says which part.
type Options struct {
	Delimiter string `json:"delimiter"`
	Index     int    `json:"index"`
}

var local = map[string]any{
	"disableNameSuffixHash": true,
	"annotations":           map[string]string{"config.kubernetes.io/local-config": "true"},
}

const settings = `data.settings\.json`

// components writes the components beside the kustomize base, from it.
func components(base, folder string) error {
	text, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	objects, err := documents(text)
	if err != nil {
		return err
	}
	image, err := imageComponent(objects)
	if err != nil {
		return err
	}
	mirrors, err := mirrorsComponent(objects)
	if err != nil {
		return err
	}
	for name, component := range map[string]*Component{"image": image, "mirrors": mirrors} {
		path := filepath.Join(folder, name, "kustomization.yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		out, err := yaml.Marshal(component)
		if err != nil {
			return err
		}
		head := "# Written from config/default by `make generate`. How it is used: config/overlays/example.\n"
		if err := os.WriteFile(path, append([]byte(head), out...), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func component() *Component {
	return &Component{APIVersion: "kustomize.config.k8s.io/v1alpha1", Kind: "Component"}
}

// find is the text at a path of an object, and its name.
func find(objects []Object, name, path string) (string, error) {
	for _, object := range objects {
		if object.Name == name {
			found, _ := at(object.Tree, path)
			text, is := found.(string)
			if is {
				return text, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %s is missing in the kustomize base", name, path)
}

// line is the only line of the settings that begins so.
func line(objects []Object, prefix string) (int, string, error) {
	text, err := find(objects, "ConfigMap/whittle-settings", "data/settings.json")
	if err != nil {
		return 0, "", err
	}
	lines := strings.Split(text, "\n")
	index := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), prefix) })
	if index < 0 || strings.Count(text, prefix) != 1 {
		return 0, "", fmt.Errorf("settings.json of the kustomize base has not one line that begins with %s", prefix)
	}
	return index, lines[index], nil
}

// intoSettings puts a value into a part of a line, and this into the settings: lines keep their numbers whatever is in one, so
// that components can be used in any order.
func (c *Component) intoSettings(source Source, name, template string, part Options, index int) {
	c.ConfigMapGenerator = append(c.ConfigMapGenerator, Generator{name, []string{"line=" + template}, local})
	composed := Source{"ConfigMap", name, "data.line"}
	c.Replacements = append(c.Replacements,
		Replacement{source, []Target{{map[string]string{"kind": "ConfigMap", "name": name}, []string{"data.line"}, &part}}},
		Replacement{composed, []Target{{map[string]string{"kind": "ConfigMap", "name": "whittle-settings"}, []string{settings}, &Options{"\n", index}}}})
}

func imageComponent(objects []Object) (*Component, error) {
	image, err := find(objects, "Deployment/whittle", "spec/template/spec/containers/controller/image")
	if err != nil {
		return nil, err
	}
	c, source := component(), Source{"ConfigMap", "whittle-image", "data.image"}
	index, template, err := line(objects, `"image": "`+image)
	if err != nil {
		return nil, err
	}
	c.intoSettings(source, "whittle-image-line", template, Options{`"`, 3}, index)
	for _, object := range objects {
		kind, name, _ := strings.Cut(object.Name, "/")
		chosen := map[string]string{"kind": kind, "name": name}
		var targets []Target
		walk(object.Tree, "", func(path, text string) {
			if path == settings {
				return
			}
			if text == image {
				targets = append(targets, Target{chosen, []string{path}, nil})
				return
			}
			for at, part := range strings.Split(text, `"`) {
				if part == image {
					targets = append(targets, Target{chosen, []string{path}, &Options{`"`, at}})
				}
			}
		})
		if len(targets) > 0 {
			slices.SortFunc(targets, func(a, b Target) int {
				if order := strings.Compare(a.FieldPaths[0], b.FieldPaths[0]); order != 0 || a.Options == nil || b.Options == nil {
					return order
				}
				return a.Options.Index - b.Options.Index
			})
			c.Replacements = append(c.Replacements, Replacement{source, targets})
		}
	}
	return c, nil
}

func mirrorsComponent(objects []Object) (*Component, error) {
	index, template, err := line(objects, `"defaults": {`)
	if err != nil {
		return nil, err
	}
	c := component()
	// The line goes on with what its object has besides.
	template += ` "registries": [] ,`
	parts := strings.Split(template, " ")
	c.intoSettings(Source{"ConfigMap", "whittle-mirrors", "data.registries"}, "whittle-mirrors-line", template, Options{" ", slices.Index(parts, "[]")}, index)
	return c, nil
}

// walk calls for each text of a tree, with the path that kustomize has for it.
func walk(tree any, path string, each func(path, text string)) {
	next := func(segment string) string {
		segment = strings.ReplaceAll(segment, ".", `\.`)
		if path == "" {
			return segment
		}
		return path + "." + segment
	}
	switch here := tree.(type) {
	case map[string]any:
		for key, value := range here {
			walk(value, next(key), each)
		}
	case []any:
		for index, value := range here {
			walk(value, next(fmt.Sprint(index)), each)
		}
	case string:
		each(path, here)
	}
}
