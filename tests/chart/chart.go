package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	admission "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// Kinds that the API server itself knows: each object is read strictly, so that a misspelled field is an error, as it
// would be of `kubectl apply --validate=strict`.
var kinds = map[string]func() any{
	"v1/ConfigMap":                                    func() any { return new(core.ConfigMap) },
	"v1/Namespace":                                    func() any { return new(core.Namespace) },
	"v1/Pod":                                          func() any { return new(core.Pod) },
	"v1/Service":                                      func() any { return new(core.Service) },
	"v1/ServiceAccount":                               func() any { return new(core.ServiceAccount) },
	"apps/v1/Deployment":                              func() any { return new(apps.Deployment) },
	"apps/v1/DaemonSet":                               func() any { return new(apps.DaemonSet) },
	"networking.k8s.io/v1/NetworkPolicy":              func() any { return new(networking.NetworkPolicy) },
	"networking.k8s.io/v1/Ingress":                    func() any { return new(networking.Ingress) },
	"policy/v1/PodDisruptionBudget":                   func() any { return new(policy.PodDisruptionBudget) },
	"rbac.authorization.k8s.io/v1/ClusterRole":        func() any { return new(rbac.ClusterRole) },
	"rbac.authorization.k8s.io/v1/ClusterRoleBinding": func() any { return new(rbac.ClusterRoleBinding) },
	"rbac.authorization.k8s.io/v1/Role":               func() any { return new(rbac.Role) },
	"rbac.authorization.k8s.io/v1/RoleBinding":        func() any { return new(rbac.RoleBinding) },
	"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy":        func() any { return new(admission.ValidatingAdmissionPolicy) },
	"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding": func() any { return new(admission.ValidatingAdmissionPolicyBinding) },
}

// Kinds of others.
var foreign = []string{
	"monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule", "gateway.networking.k8s.io/v1/HTTPRoute",
	"apiextensions.k8s.io/v1/CustomResourceDefinition", "whittle.dev/v1alpha1/ImageBuild",
}

// Object is one document of what was rendered.
type Object struct {
	Name string // Kind/name
	Raw  []byte
	Tree map[string]any
}

// documents are the objects of a text, each valid.
func documents(text []byte) ([]Object, error) {
	var all []Object
	for document := range bytes.SplitSeq(append([]byte("\n"), text...), []byte("\n---")) {
		var tree map[string]any
		raw, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			return nil, fmt.Errorf("%w:\n%s", err, document)
		}
		if err := json.Unmarshal(raw, &tree); err != nil {
			return nil, fmt.Errorf("%w:\n%s", err, document)
		}
		if len(tree) == 0 {
			continue
		}
		name, err := valid(raw, tree)
		if err != nil {
			return nil, fmt.Errorf("%w:\n%s", err, document)
		}
		for _, other := range all {
			if other.Name == name {
				return nil, fmt.Errorf("%s is there twice", name)
			}
		}
		all = append(all, Object{name, document, tree})
	}
	return all, nil
}

func valid(raw []byte, tree map[string]any) (string, error) {
	version, _ := tree["apiVersion"].(string)
	kind, _ := tree["kind"].(string)
	metadata, _ := tree["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	if name == "" {
		return "", fmt.Errorf("an object without a name")
	}
	full := version + "/" + kind
	if namespace, _ := metadata["namespace"].(string); namespace != "" && namespace != "whittle-system" {
		name = namespace + "/" + name
	}
	into := kinds[full]
	if into == nil {
		if !slices.Contains(foreign, full) {
			return "", fmt.Errorf("%s is not a kind that these tests know: add it to kinds", full)
		}
		return kind + "/" + name, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into()); err != nil {
		return "", fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return kind + "/" + name, nil
}

// at is what is at a path: keys and indices with slashes between, ~1 for a slash, and in lists the name of an element. In a text it
// goes on where that is JSON.
func at(tree any, path string) (any, bool) {
	for segment := range strings.SplitSeq(path, "/") {
		segment = strings.ReplaceAll(segment, "~1", "/")
		if text, is := tree.(string); is && json.Unmarshal([]byte(text), &tree) != nil {
			return nil, false
		}
		switch here := tree.(type) {
		case map[string]any:
			next, found := here[segment]
			if !found {
				return nil, false
			}
			tree = next
		case []any:
			index, err := strconv.Atoi(segment)
			if err != nil {
				index = slices.IndexFunc(here, func(element any) bool {
					named, _ := element.(map[string]any)
					return named["name"] == segment
				})
			}
			if index < 0 || index >= len(here) {
				return nil, false
			}
			tree = here[index]
		default:
			return nil, false
		}
	}
	return tree, true
}

// render is what helm makes of a chart with such values, and what it says where it fails.
func render(helm, chart string, values []byte) ([]byte, error) {
	command := exec.Command(helm, "template", "whittle", chart, "--namespace", "whittle-system", "--values", "-")
	command.Stdin = bytes.NewReader(values)
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	return out, nil
}
