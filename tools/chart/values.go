package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Value is one value of values.yaml, with what its comment says.
type Value struct {
	key         string
	path        string
	description string
	section     string
	node        *yaml.Node
	// What @schema says.
	extra map[string]any
	// Whether further keys may stand beside those that are here (@open).
	open     bool
	children []*Value
}

// Values are all of them.
type Values struct{ root *Value }

func readValues(file string) (*Values, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	lines := strings.Split(string(text), "\n")
	root := &Value{node: document.Content[0], description: "Values of the chart oauth-operator."}
	if err := root.read(lines); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	section := ""
	line := 0
	for _, value := range root.children {
		for ; line < value.node.Line && line < len(lines); line++ {
			if title, found := strings.CutPrefix(lines[line], "# @section "); found {
				section = title
			}
		}
		value.section = section
	}
	return &Values{root}, nil
}

func (value *Value) read(lines []string) error {
	for i := 0; i+1 < len(value.node.Content); i += 2 {
		key, node := value.node.Content[i], value.node.Content[i+1]
		child := &Value{key: key.Value, path: strings.TrimPrefix(value.path+"."+key.Value, "."), node: node}
		if err := child.annotate(commentAbove(lines, key.Line)); err != nil {
			return fmt.Errorf("%s: %w", child.path, err)
		}
		if child.description == "" {
			return fmt.Errorf("%s has no comment that explains it", child.path)
		}
		if child.isGroup() {
			if err := child.read(lines); err != nil {
				return err
			}
		}
		value.children = append(value.children, child)
	}
	return nil
}

// commentAbove gives the comment that ends on the line above this one, which counts from 1.
func commentAbove(lines []string, line int) []string {
	first := line - 1
	for first > 0 && strings.HasPrefix(strings.TrimSpace(lines[first-1]), "#") {
		first--
	}
	var comment []string
	for _, text := range lines[first : line-1] {
		text = strings.TrimSpace(text)
		comment = append(comment, strings.TrimPrefix(strings.TrimPrefix(text, "#"), " "))
	}
	return comment
}

func (value *Value) annotate(comment []string) error {
	var words []string
	for _, line := range comment {
		switch {
		case strings.HasPrefix(line, "@schema "):
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "@schema ")), &value.extra); err != nil {
				return fmt.Errorf("@schema: %w", err)
			}
		case strings.HasPrefix(line, "@open"):
			value.open = true
		case strings.HasPrefix(line, "@"):
			return fmt.Errorf("nobody knows %q", line)
		default:
			words = append(words, line)
		}
	}
	value.description = strings.Join(words, " ")
	return nil
}

// isGroup says whether it is made of values, each of which is explained. Others are handed on to Kubernetes as they are.
func (value *Value) isGroup() bool {
	_, whole := value.extra["type"]
	return value.node.Kind == yaml.MappingNode && len(value.node.Content) > 0 && !whole
}

func (values *Values) schema() ([]byte, error) {
	schema := values.root.schema()
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["$comment"] = "GENERATED from values.yaml by `make chart`; do not edit."
	schema["title"] = "Values of the chart oauth-operator"
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(schema)
	return text.Bytes(), err
}

func (value *Value) schema() map[string]any {
	schema := map[string]any{"description": value.description}
	switch {
	case value.key == "" || value.isGroup():
		properties := map[string]any{}
		for _, child := range value.children {
			properties[child.key] = child.schema()
		}
		schema["type"], schema["properties"], schema["additionalProperties"] = "object", properties, value.open
	case value.node.Kind == yaml.MappingNode:
		schema["type"] = "object"
	case value.node.Kind == yaml.SequenceNode:
		schema["type"] = "array"
	case value.node.Tag == "!!bool":
		schema["type"] = "boolean"
	case value.node.Tag == "!!int":
		schema["type"] = "integer"
	default:
		schema["type"] = "string"
	}
	for key, what := range value.extra {
		schema[key] = what
	}
	return schema
}

const readmeHead = `<!-- GENERATED from values.yaml by ` + "`make chart`" + `; do not edit. -->

# Chart oauth-operator

Installs the operator, its CustomResourceDefinitions and its rights:

    helm install oauth-operator charts/oauth-operator --namespace oauth-operator-system --create-namespace

[docs/installation.md](../../docs/installation.md) says how to upgrade, to serve some namespaces only, to run it highly available, on
OpenShift or from a registry of your own, and how to remove it. ` + "`values-ha.yaml`" + ` is for clusters that must not notice when a node goes.

A key that is not listed here is an error, and so is a value of another type.
`

func (values *Values) readme() string {
	var text strings.Builder
	text.WriteString(readmeHead)
	section := ""
	for _, value := range values.root.children {
		if value.section != section {
			section = value.section
			fmt.Fprintf(&text, "\n## %s\n\n| value | default | what it does |\n| --- | --- | --- |\n", section)
		}
		value.rows(&text)
	}
	return text.String()
}

func (value *Value) rows(text *strings.Builder) {
	description := value.description
	if choices, has := value.extra["enum"].([]any); has && len(choices) > 1 {
		var named []string
		for _, choice := range choices {
			if choice != "" {
				named = append(named, fmt.Sprintf("`%v`", choice))
			}
		}
		description += " One of " + strings.Join(named, ", ") + "."
	}
	fmt.Fprintf(text, "| `%s` | %s | %s |\n", value.path, value.shown(), strings.ReplaceAll(description, "|", `\|`))
	for _, child := range value.children {
		child.rows(text)
	}
}

// shown is the default as one writes it in a line.
func (value *Value) shown() string {
	if value.isGroup() {
		return ""
	}
	var plain any
	if err := value.node.Decode(&plain); err != nil {
		return ""
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	// What was read from YAML can be written as JSON.
	_ = encoder.Encode(plain)
	return "`" + strings.TrimSpace(text.String()) + "`"
}
