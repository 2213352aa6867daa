package doctor

import (
	"regexp"
	"strings"
)

// shownKeys are the fields of the local API whose text may be shown, masked. A field that is not here is struck out: one that is
// added later does not leak.
var shownKeys = map[string]bool{
	"version": true, "mode": true, "accept": true, "visibility": true, "kind": true, "state": true, "why": true, "hint": true, "role": true, "ifname": true,
	"engine": true, "intent_why": true, "notices": true, "trust": true, "error": true, "address": true, "addresses": true, "link_local": true,
	"ipv4": true, "members": true, "fix": true, "cause": true, "level": true, "direction": true, "outcome": true, "rtt": true,
}

// namedKeys are fields that hold a name; their value gets a pseudonym of the kind.
var namedKeys = map[string]string{"id": "id", "short": "id", "peer": "id", "name": "device", "peer_name": "device", "ssid": "ssid"}

// JSON masks a value that encoding/json decoded into an any.
func (m *Mask) JSON(v any) any { return m.field("", v) }

func (m *Mask) field(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, inner := range v {
			out[k] = m.field(k, inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = m.field(key, inner)
		}
		return out
	case string:
		kind, named := namedKeys[key]
		switch {
		case v == "":
			return v
		case named:
			return m.name(kind, v)
		case shownKeys[key]:
			return m.Text(v)
		}
		return hidden
	}
	return v // numbers and truths
}

// shownAttrs are the keys of log attributes whose value may be shown, masked.
var shownAttrs = map[string]bool{
	"addr": true, "err": true, "group": true, "ifname": true, "kind": true, "mode": true, "reason": true, "state": true, "step": true, "version": true,
	"engine": true, "why": true, "role": true, "status": true, "stage": true, "address": true, "path": true, "prefix": true, "to": true, "signal": true,
}

var (
	// logAttr finds key=value and key="value with \" in it".
	logAttr = regexp.MustCompile(`([\w.]+)=("(?:[^"\\]|\\.)*"|\S*)`)
	// harmless values are numbers, durations and truths, unless their key says that they are secret.
	harmless = regexp.MustCompile(`^(?:-?\d+(?:\.\d+)?|true|false|(?:\d+(?:\.\d+)?(?:ns|µs|ms|s|m|h))+)$`)
	secret   = regexp.MustCompile(`(?i)pass|psk|pin|key|secret|code|token`)
	// quoted text in an error is a name that somebody gave to something.
	quoted = regexp.MustCompile(`\\?"[^"]*"|'[^']*'`)
)

// Attrs masks the attributes of a log line: those whose key is not known to be harmless are struck out.
func (m *Mask) Attrs(attrs string) string {
	var out []string
	for _, found := range logAttr.FindAllStringSubmatch(attrs, -1) {
		key, value := found[1], found[2]
		last := key[strings.LastIndexByte(key, '.')+1:]
		switch {
		case last == "id" || last == "peer":
			value = m.name("id", strings.Trim(value, `"`))
		case last == "name" || last == "peer_name":
			value = m.name("device", strings.Trim(value, `"`))
		case secret.MatchString(last):
			value = hidden
		case harmless.MatchString(value) && len(value) != 8:
		case shownAttrs[last]:
			value = m.Text(quoted.ReplaceAllString(strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`), hidden))
		default:
			value = hidden
		}
		out = append(out, key+"="+value)
	}
	return strings.Join(out, " ")
}
