package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
)

const (
	maxRules = 8 << 20 // bytes of a rule set that are read
	maxJumps = 16      // as deep as the kernel lets chains call each other
	maxSteps = 100_000 // rules looked at for one packet
)

// fate is a set of what may become of a packet. More than one means that the rules ask for what is not known here.
type fate uint8

const (
	accepted fate = 1 << iota
	dropped
	rejected
	goesOn  // to the next rule
	returns // to the chain that called this one
)

// closed reports whether the packet cannot get in, open that it does. Neither: it depends.
func (f fate) closed() bool { return f&accepted == 0 && f&(dropped|rejected) != 0 }
func (f fate) open() bool   { return f == accepted }

// packet is one that begins something with us.
type packet struct {
	ifname string
	proto  string // "tcp" or "udp"
	port   int
	group  string // multicast address it is sent to; "" = our own
	v6     bool
}

// place names where a packet ended.
type place struct{ Family, Table, Chain string }

// ruleset is what `nft -j list ruleset` says (libnftables-json(5)).
type ruleset struct {
	chains map[place]*chain
	sets   map[place][]any // by family, table and the name of the set
	own    []ownRule
}

// ownRule is one that nftRule made.
type ownRule struct {
	place
	handle int
}

// ownComment marks our rules.
const ownComment = "nigh"

type chain struct {
	place
	hook   string
	prio   int
	policy string
	rules  [][]map[string]json.RawMessage
}

// readRules asks the kernel by the program nft, which needs CAP_NET_ADMIN. Rules of iptables-nft are among them, those of
// iptables-legacy are not.
func readRules(ctx context.Context) (*ruleset, error) {
	path, err := exec.LookPath("nft")
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // where users' PATH does not lead
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, "nft"))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, "-j", "list", "ruleset")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(out, maxRules+1))
	if len(raw) > maxRules {
		_ = cmd.Process.Kill()
		err = errors.New("the rule set is too large")
	}
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("doctor: nft: %w", err)
	}
	return parseRules(raw)
}

// parseRules reads JSON of nft. What it does not know is kept out or, in a rule, makes the outcome uncertain.
func parseRules(raw []byte) (*ruleset, error) {
	var file struct {
		Nftables []struct {
			Chain *struct {
				Family, Table, Name, Hook, Policy string
				Prio                              int
			}
			Rule *struct {
				Family, Table, Chain, Comment string
				Handle                        int
				Expr                          []map[string]json.RawMessage
			}
			Set, Map *struct {
				Family, Table, Name string
				Elem                []any
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("doctor: nft: %w", err)
	}
	r := &ruleset{chains: map[place]*chain{}, sets: map[place][]any{}}
	for _, o := range file.Nftables {
		if c := o.Chain; c != nil {
			at := place{c.Family, c.Table, c.Name}
			r.chains[at] = &chain{place: at, hook: c.Hook, prio: c.Prio, policy: c.Policy}
		}
		if s := o.Set; s != nil {
			r.sets[place{s.Family, s.Table, s.Name}] = s.Elem
		}
		if m := o.Map; m != nil {
			r.sets[place{m.Family, m.Table, m.Name}] = m.Elem
		}
	}
	for _, o := range file.Nftables {
		if o.Rule == nil {
			continue
		}
		if o.Rule.Comment == ownComment {
			r.own = append(r.own, ownRule{place{o.Rule.Family, o.Rule.Table, o.Rule.Chain}, o.Rule.Handle})
		}
		if c := r.chains[place{o.Rule.Family, o.Rule.Table, o.Rule.Chain}]; c != nil {
			c.rules = append(c.rules, o.Rule.Expr)
		}
	}
	return r, nil
}

// input tells what becomes of a packet, and in which base chain when it does not get in. Tables with a name in except are
// passed over.
func (r *ruleset) input(p packet, except ...string) (fate, place) {
	var base []*chain
	for _, c := range r.chains {
		family := c.Family == "inet" || c.Family == "ip" && !p.v6 || c.Family == "ip6" && p.v6
		if c.hook == "input" && family && !slices.Contains(except, c.Table) {
			base = append(base, c)
		}
	}
	sort.Slice(base, func(i, j int) bool { return base[i].prio < base[j].prio })
	all := accepted
	for _, c := range base {
		w := walk{r: r, p: p}
		f := w.chain(c, 0)
		if f&goesOn != 0 {
			f &^= goesOn
			if c.policy == "drop" {
				f |= dropped
			} else {
				f |= accepted
			}
		}
		if f.closed() {
			return f, c.place
		}
		all |= f
	}
	return all, place{}
}
