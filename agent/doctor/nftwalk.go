package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
)

// walk follows one packet through chains.
type walk struct {
	r     *ruleset
	p     packet
	steps int
}

const anything = accepted | dropped | rejected | goesOn

// oddHeaders are matches of iptables for headers that packets of ours do not have.
var oddHeaders = []string{"rt", "frag", "dst", "hbh", "ah", "esp", "icmp", "icmp6", "sctp", "dccp"}

// chain gives what may become of the packet in a chain; goesOn when it may come out at the end of it.
func (w *walk) chain(c *chain, depth int) fate {
	// It asks whether the packet is for this machine, by a match that nft does not show; ours are.
	if c == nil || c.Chain == "ufw-not-local" {
		return goesOn
	}
	var out fate
	for _, rule := range c.rules {
		if w.steps++; w.steps > maxSteps || depth > maxJumps {
			return anything
		}
		f := w.rule(c, rule, depth)
		out |= f & (accepted | dropped | rejected)
		if f&returns != 0 {
			out |= goesOn
		}
		if f&goesOn == 0 {
			return out
		}
	}
	return out | goesOn
}

// truth is an answer that may not be known.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func not(t truth) truth { return yes - t }

// rule gives what one rule does.
func (w *walk) rule(c *chain, statements []map[string]json.RawMessage, depth int) fate {
	applies := yes
	constrained := false // by something else than the state of the connection
	for _, statement := range statements {
		for kind, raw := range statement {
			switch kind {
			case "match":
				var m struct {
					Op          string
					Left, Right any
				}
				if json.Unmarshal(raw, &m) != nil {
					return anything
				}
				applies = min(applies, w.match(c, m.Op, m.Left, m.Right))
				constrained = true
			case "xt":
				var xt struct{ Type, Name string }
				_ = json.Unmarshal(raw, &xt) // older programs say nothing here
				switch {
				case xt.Name == "comment" || xt.Name == "LOG" || xt.Name == "NFLOG":
				case xt.Name == "REJECT":
					return possibly(applies, rejected)
				case xt.Name == "conntrack" && !constrained:
					applies = no // alone it lets in what belongs to something, or drops what is broken
				case slices.Contains(oddHeaders, xt.Name):
					applies = no
				default:
					applies = min(applies, maybe)
				}
			case "limit", "quota", "meter", "queue", "osf", "socket", "synproxy", "tproxy":
				applies = min(applies, maybe)
			}
			if f, ok := w.verdict(c, kind, raw, depth); ok {
				return possibly(applies, f)
			}
		}
		if applies == no {
			return goesOn
		}
	}
	return goesOn
}

// possibly is what a verdict comes to when its rule may not apply.
func possibly(applies truth, f fate) fate {
	switch applies {
	case no:
		return goesOn
	case maybe:
		return f | goesOn
	}
	return f
}

// verdict gives what a statement that ends a rule does.
func (w *walk) verdict(c *chain, kind string, raw json.RawMessage, depth int) (fate, bool) {
	switch kind {
	case "accept":
		return accepted, true
	case "drop":
		return dropped, true
	case "reject":
		return rejected, true
	case "return":
		return returns, true
	case "queue":
		return anything, true
	case "jump", "goto":
		var to struct{ Target string }
		if json.Unmarshal(raw, &to) != nil {
			return anything, true
		}
		f := w.chain(w.r.chains[place{c.Family, c.Table, to.Target}], depth+1)
		if kind == "goto" && f&goesOn != 0 {
			f = f&^goesOn | returns
		}
		return f, true
	case "vmap":
		var v struct{ Key, Data any }
		if json.Unmarshal(raw, &v) != nil {
			return anything, true
		}
		return w.verdictMap(c, v.Key, v.Data, depth), true
	}
	return 0, false
}

func (w *walk) verdictMap(c *chain, key, data any, depth int) fate {
	var out fate
	left := goesOn
	for _, e := range w.elements(c, data) {
		pair, ok := e.([]any)
		if !ok || len(pair) != 2 {
			return anything
		}
		t := w.match(c, "==", key, map[string]any{"set": []any{pair[0]}})
		if t == no {
			continue
		}
		f := fate(anything)
		if v, ok := pair[1].(map[string]any); ok {
			for kind, argument := range v {
				raw, _ := json.Marshal(argument) // it came out of JSON
				if g, ok := w.verdict(c, kind, raw, depth+1); ok {
					f = g
				} else {
					f = goesOn // "continue"
				}
			}
		}
		out |= f
		if t == yes {
			left = 0
			break
		}
	}
	return out | left
}

// elements lists those of a set that stands in a rule, or has a name.
func (w *walk) elements(c *chain, data any) []any {
	switch d := data.(type) {
	case string:
		if name, ok := strings.CutPrefix(d, "@"); ok {
			return w.r.sets[place{c.Family, c.Table, name}]
		}
	case map[string]any:
		if set, ok := d["set"].([]any); ok {
			return set
		}
	case []any:
		return d
	}
	return []any{data}
}

// match compares what an expression gives for the packet.
func (w *walk) match(c *chain, op string, left, right any) truth {
	v, known := w.value(left)
	if known == no {
		return no // the packet has no such header
	}
	if known == maybe {
		return maybe
	}
	if op == "<" || op == ">" || op == "<=" || op == ">=" {
		return compare(op, v, right)
	}
	found := no
	for _, e := range w.elements(c, right) {
		found = max(found, equal(v, e))
	}
	if op == "!=" {
		return not(found)
	}
	return found
}

// value gives what an expression says of the packet. maybe: that is not known here; no: the packet has no such thing.
func (w *walk) value(expr any) (any, truth) {
	e, ok := expr.(map[string]any)
	if !ok {
		return nil, maybe
	}
	inner := func(kind string) (field func(string) string, ok bool) {
		m, ok := e[kind].(map[string]any)
		return func(name string) string { s, _ := m[name].(string); return s }, ok
	}
	if field, ok := inner("meta"); ok {
		return w.meta(field("key"))
	}
	if field, ok := inner("payload"); ok {
		return w.payload(field("protocol"), field("field"))
	}
	if field, ok := inner("ct"); ok && field("key") == "state" {
		return "new", yes
	}
	if field, ok := inner("fib"); ok && field("result") == "type" {
		if w.p.group != "" {
			return "multicast", yes
		}
		return "local", yes
	}
	// The bits of a TCP header: a connection begins with syn alone.
	if and, ok := e["&"].([]any); ok && len(and) == 2 {
		v, known := w.value(and[0])
		mask, _ := and[1].([]any)
		if known != yes || v == "syn" && slices.Contains(mask, any("syn")) {
			return v, known
		}
	}
	return nil, maybe
}

func (w *walk) meta(key string) (any, truth) {
	switch key {
	case "iifname", "iif":
		return w.p.ifname, yes
	case "l4proto":
		return w.p.proto, yes
	case "nfproto":
		if w.p.v6 {
			return "ipv6", yes
		}
		return "ipv4", yes
	case "protocol":
		if w.p.v6 {
			return "ip6", yes
		}
		return "ip", yes
	case "pkttype":
		if w.p.group != "" {
			return "multicast", yes
		}
		return "host", yes
	}
	return nil, maybe
}

func (w *walk) payload(protocol, field string) (any, truth) {
	switch protocol {
	case "ip", "ip6":
		switch {
		case (protocol == "ip6") != w.p.v6:
			return nil, no
		case field == "daddr" && w.p.group != "":
			return w.p.group, yes
		case field == "protocol" || field == "nexthdr":
			return w.p.proto, yes
		}
		return nil, maybe
	case "tcp", "udp", "th":
		switch {
		case protocol != "th" && protocol != w.p.proto:
			return nil, no
		case field == "dport":
			return float64(w.p.port), yes
		case field == "flags":
			return "syn", yes
		}
		return nil, maybe
	case "":
		return nil, maybe // bits at an offset
	}
	return nil, no // icmp, sctp, ...
}

// equal compares a value with an element of a set.
func equal(v, element any) truth {
	switch e := element.(type) {
	case string:
		return equalText(v, e)
	case float64:
		if n, ok := v.(float64); ok && n == e {
			return yes
		}
		if _, ok := v.(string); ok {
			return maybe // a name that nft did not write out
		}
		return no
	case map[string]any:
		return equalRange(v, e)
	}
	return maybe
}

func equalText(v any, e string) truth {
	text, ok := v.(string)
	if !ok {
		return maybe
	}
	if prefix, ok := strings.CutSuffix(e, "*"); ok && strings.HasPrefix(text, prefix) || e == text {
		return yes
	}
	return no
}

func equalRange(v any, e map[string]any) truth {
	if r, ok := e["range"].([]any); ok && len(r) == 2 {
		return min(compare(">=", v, r[0]), compare("<=", v, r[1]))
	}
	if inner, ok := e["elem"].(map[string]any); ok { // with a comment or a timeout
		return equal(v, inner["val"])
	}
	prefix, ok := e["prefix"].(map[string]any)
	text, _ := v.(string)
	if !ok || text == "" {
		return maybe
	}
	from, _ := prefix["addr"].(string)
	bits, _ := prefix["len"].(float64)
	base, err1 := netip.ParseAddr(from)
	addr, err2 := netip.ParseAddr(text)
	if err1 != nil || err2 != nil {
		return maybe
	}
	if netip.PrefixFrom(base, int(bits)).Contains(addr) {
		return yes
	}
	return no
}

func compare(op string, v, bound any) truth {
	a, ok1 := v.(float64)
	b, ok2 := bound.(float64)
	if !ok1 || !ok2 {
		return maybe
	}
	holds := false
	switch op {
	case "<":
		holds = a < b
	case ">":
		holds = a > b
	case "<=":
		holds = a <= b
	case ">=":
		holds = a >= b
	}
	if holds {
		return yes
	}
	return no
}
