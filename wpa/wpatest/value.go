package wpatest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// format writes a decoded D-Bus value as a script has it, so that parse gives the same value of the same type:
//
//	"text"  o"/path"  true  y7 n-1 q4 i-3 u5 x9 t9     basic types, numbers with their D-Bus letter
//	#0aff                                              an array of bytes
//	as["a" "b"]  ao[o"/a"]  aay[#01 #]  ai[i1 i2]      other arrays
//	{"key" value "key" value}                          a{sv}, in the order of the keys
//	<value>                                            a variant by itself
//
// godbus's own text form cannot be read back for arrays of arrays and control characters.
func format(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case dbus.ObjectPath:
		return "o" + strconv.Quote(string(v))
	case bool:
		return strconv.FormatBool(v)
	case byte:
		return fmt.Sprint("y", v)
	case int16:
		return fmt.Sprint("n", v)
	case uint16:
		return fmt.Sprint("q", v)
	case int32:
		return fmt.Sprint("i", v)
	case uint32:
		return fmt.Sprint("u", v)
	case int64:
		return fmt.Sprint("x", v)
	case uint64:
		return fmt.Sprint("t", v)
	case []byte:
		return "#" + hex.EncodeToString(v)
	case []string:
		return list("as", v)
	case []dbus.ObjectPath:
		return list("ao", v)
	case [][]byte:
		return list("aay", v)
	case []int32:
		return list("ai", v)
	case map[string]dbus.Variant:
		words := []string{}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			words = append(words, strconv.Quote(k), format(v[k].Value()))
		}
		return "{" + strings.Join(words, " ") + "}"
	case dbus.Variant:
		return "<" + format(v.Value()) + ">"
	}
	return fmt.Sprintf("?%q", fmt.Sprintf("%T", v)) // which nothing reads
}

func list[T any](kind string, v []T) string {
	words := make([]string, len(v))
	for i, e := range v {
		words[i] = format(e)
	}
	return kind + "[" + strings.Join(words, " ") + "]"
}

var errValue = errors.New("not a value")

// parse reads what format wrote.
func parse(s string) (any, error) {
	p := &parser{rest: s}
	v, err := p.value(0)
	if err == nil && p.rest != "" {
		err = errValue
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %q at %q", err, s, p.rest)
	}
	return v, nil
}

type parser struct{ rest string }

// maxDepth bounds how deep dictionaries are in each other.
const maxDepth = 16

func (p *parser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

func (p *parser) quoted() (string, error) {
	q, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", errValue
	}
	p.rest = p.rest[len(q):]
	return strconv.Unquote(q)
}

// word is what comes up to the next delimiter.
func (p *parser) word() string {
	i := strings.IndexAny(p.rest, " ]}>")
	if i < 0 {
		i = len(p.rest)
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

func (p *parser) value(depth int) (any, error) {
	if p.rest == "" || depth > maxDepth {
		return nil, errValue
	}
	switch {
	case p.rest[0] == '"':
		return p.quoted()
	case p.take(`o"`):
		p.rest = `"` + p.rest
		s, err := p.quoted()
		return dbus.ObjectPath(s), err
	case p.take("#"):
		b, err := hex.DecodeString(p.word())
		return b, err
	case p.take("{"):
		return p.dict(depth)
	case p.take("<"):
		v, err := p.value(depth + 1)
		if err == nil && !p.take(">") {
			err = errValue
		}
		if err != nil {
			return nil, err
		}
		return dbus.MakeVariant(v), nil
	case p.take("as["):
		return elements[string](p, depth)
	case p.take("ao["):
		return elements[dbus.ObjectPath](p, depth)
	case p.take("aay["):
		return elements[[]byte](p, depth)
	case p.take("ai["):
		return elements[int32](p, depth)
	}
	return number(p.word())
}

func elements[T any](p *parser, depth int) (any, error) {
	out := []T{}
	for !p.take("]") {
		v, err := p.value(depth + 1)
		e, ok := v.(T)
		if err != nil || !ok {
			return nil, errValue
		}
		out = append(out, e)
		p.take(" ")
	}
	return out, nil
}

func (p *parser) dict(depth int) (any, error) {
	out := map[string]dbus.Variant{}
	for !p.take("}") {
		k, err := p.quoted()
		if err != nil || !p.take(" ") {
			return nil, errValue
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out[k] = dbus.MakeVariant(v)
		p.take(" ")
	}
	return out, nil
}

func number(w string) (any, error) {
	switch w {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "":
		return nil, errValue
	}
	signed := func(bits int) (int64, error) { return strconv.ParseInt(w[1:], 10, bits) }
	unsigned := func(bits int) (uint64, error) { return strconv.ParseUint(w[1:], 10, bits) }
	switch w[0] {
	case 'y':
		n, err := unsigned(8)
		return byte(n), err
	case 'n':
		n, err := signed(16)
		return int16(n), err
	case 'q':
		n, err := unsigned(16)
		return uint16(n), err
	case 'i':
		n, err := signed(32)
		return int32(n), err
	case 'u':
		n, err := unsigned(32)
		return uint32(n), err
	case 'x':
		n, err := signed(64)
		return n, err
	case 't':
		n, err := unsigned(64)
		return n, err
	}
	return nil, errValue
}
