package tui

import (
	"fmt"
	"strings"

	"nigh/agent/control"
)

// peersScreen shows the devices near and known, one row each.
type peersScreen struct{ list list }

func (s *peersScreen) title() string  { return "Peers" }
func (s *peersScreen) badge(*app) int { return 0 }
func (s *peersScreen) in() scope      { return onPeers }
func (s *peersScreen) rows() *list    { return &s.list }
func (s *peersScreen) peer(a *app) *peer {
	s.sync(a)
	return a.st.peer(s.list.key)
}

// sync gives the list the rows that pass the filter.
func (s *peersScreen) sync(a *app) []*peer {
	shown := make([]*peer, 0, len(a.st.peers))
	keys := make([]string, 0, len(a.st.peers))
	for _, p := range a.st.peers {
		if s.list.matches(p.Name, p.Short, p.Trust, p.State) {
			shown = append(shown, p)
			keys = append(keys, p.Key())
		}
	}
	s.list.set(keys)
	return shown
}

func (s *peersScreen) draw(a *app, w, h int) []string {
	shown := s.sync(a)
	if len(a.st.peers) == 0 {
		return s.empty(a, w, h)
	}
	title := "nothing passes the filter"
	p := a.st.peer(s.list.key)
	if p != nil {
		title = nameOf(p.Peer)
	}
	return a.withDetail(w, h, 0, title,
		func(w, h int) []string { return s.table(a, shown, w, h) },
		func(w, h int) []string { return s.detail(a, p, w, h) })
}

func (s *peersScreen) table(a *app, shown []*peer, w, h int) []string {
	cols := []column{{"NAME", 0, false}, {"TRUST", 10, false}, {"PATH", 14, false}, {"SIGNAL", 11, false}, {"SEEN", 8, false}, {"STATE", 12, false}}
	signal := w >= 76
	if !signal { // what is left is for the name
		cols = []column{{"NAME", 0, false}, {"TRUST", 9, false}, {"PATH", 13, false}, {"SEEN", 7, false}, {"STATE", 11, false}}
	}
	if a.th.Linear {
		cols = []column{cols[0], cols[len(cols)-1], cols[1], cols[2], {"SIGNAL", 1, false}, {"SEEN", 1, false}}
	}
	t := newTable(w, cols...)
	lines := []string{t.head(a)}
	first, end := s.list.window(h - 1)
	for i := first; i < end; i++ {
		s.list.drew(len(lines), i)
		p := shown[i]
		cells := []cell{
			{nameOf(p.Peer), nil},
			{p.Trust, a.trustStyle(p.Trust)},
			{pathsText(p.Paths), nil},
			{signalText(a, p.Paths), nil},
			{seenText(a, p), nil},
			{p.State, a.peerStyle(p)},
		}
		if a.th.Linear { // what is cut off in a narrow window is what matters least
			cells = []cell{cells[0], cells[5], cells[1], cells[2], cells[3], cells[4]}
		} else if !signal {
			cells = append(cells[:3], cells[4:]...)
		}
		lines = append(lines, t.row(a, p.Key() == s.list.key, cells...))
	}
	return lines
}

func (a *app) trustStyle(trust string) func(string) string {
	switch trust {
	case "trusted":
		return a.th.Good.Render
	case "blocked":
		return a.th.Bad.Render
	}
	return a.th.Warn.Render
}

func (a *app) peerStyle(p *peer) func(string) string {
	switch {
	case p.Error != "", p.Warning != "":
		return a.th.Bad.Render
	case p.State == "ready":
		return a.th.Good.Render
	case p.State == "away":
		return a.th.Dim.Render
	}
	return nil
}

// pathsText names the ways to a peer: "Direct + LAN".
func pathsText(paths []control.Path) string {
	var names []string
	seen := map[string]bool{}
	for _, p := range paths {
		if n := kindText(p.Kind); !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, " + ")
}

func kindText(kind string) string {
	switch kind {
	case "direct":
		return "Direct"
	case "lan":
		return "LAN"
	case "manual":
		return "typed"
	}
	return kind
}

// signalText draws the radio signal when there is one, else the round-trip time.
func signalText(a *app, paths []control.Path) string {
	for _, p := range paths {
		if p.Signal != 0 {
			if a.th.Linear {
				return fmt.Sprintf("%d dBm", p.Signal)
			}
			return fit(bars(a, p.Signal), 4) + fmt.Sprintf(" %d", p.Signal)
		}
	}
	for _, p := range paths {
		if p.RTT > 0 {
			return rttText(p.RTT)
		}
	}
	return "-"
}

func rttText(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// bars draws a signal strength in dBm as one to four blocks.
func bars(a *app, dbm int) string {
	n := 1
	for _, limit := range []int{-80, -67, -55} {
		if dbm >= limit {
			n++
		}
	}
	return strings.Repeat(a.th.Full, n)
}

func seenText(a *app, p *peer) string {
	if p.State == "ready" {
		return "now"
	}
	return agoText(p.age(a.now))
}

func (s *peersScreen) detail(a *app, p *peer, w, h int) []string {
	if p == nil {
		return nil
	}
	list := []pair{}
	if p.Warning != "" {
		list = append(list, pair{"Warning", sentence(p.Warning), a.th.Bad.Render})
	}
	if p.Error != "" {
		list = append(list, pair{"Problem", sentence(p.Error) + " " + sentence(p.Hint), a.th.Bad.Render})
	}
	id, tail := p.ID, trustText(p)
	switch {
	case id == "":
		id, tail = "not known until it connects: c", ""
	case h < 5:
		id = p.Short
	default:
		id = strings.Join(idLines(id, w-labelWidth), "\n")
	}
	list = append(list, pair{"Identity", id, nil}, pair{"Trust", tail, nil})
	for _, path := range p.Paths {
		list = append(list, pair{kindText(path.Kind), pathText(path), nil})
	}
	if len(p.Paths) == 0 {
		list = append(list, pair{"Last seen", lastSeen(a, p), nil})
	}
	if n := s.transfersWith(a, p.ID); n != "" {
		list = append(list, pair{"Transfers", n, nil})
	}
	return pairs(w, h, list...)
}

func trustText(p *peer) string {
	switch {
	case p.Trust == "trusted" && p.AutoAccept:
		return "trusted, may send without asking"
	case p.Trust == "trusted":
		return "trusted, asks before it sends"
	case p.Trust == "blocked":
		return "blocked: nothing from it gets through (u unblocks)"
	}
	return "new: not paired yet (p)"
}

func pathText(p control.Path) string {
	s := p.Address
	if p.Ifname != "" {
		s += " on " + p.Ifname
	}
	if p.Signal != 0 {
		s += fmt.Sprintf(", %d dBm", p.Signal)
	}
	if p.RTT > 0 {
		s += ", " + rttText(p.RTT)
	}
	if p.Active {
		s += ", in use"
	}
	return s
}

func lastSeen(a *app, p *peer) string {
	age := agoText(p.age(a.now))
	switch age {
	case "-":
		return "never"
	case "now":
		return age
	}
	return age + " ago"
}

// transfersWith says what goes on with a device.
func (s *peersScreen) transfersWith(a *app, id string) string {
	running, over := 0, 0
	for _, t := range a.st.transfers {
		if id == "" || t.Peer != id {
			continue
		}
		if t.over() {
			over++
		} else {
			running++
		}
	}
	if running+over == 0 {
		return ""
	}
	return fmt.Sprintf("%d going on, %d over", running, over)
}

// empty says what is being done while nothing is found.
func (s *peersScreen) empty(a *app, w, h int) []string {
	st := &a.st.status
	direct := ""
	switch r := st.Radio; {
	case r.State == "ready" && r.Finding:
		direct = "looking on " + r.Ifname
	case r.State == "ready":
		direct = r.Ifname + " ready, not looking: press s"
	default:
		direct = radioState(r)
	}
	var lan, names []string
	for _, l := range st.Links {
		if !l.Usable || l.Kind == "direct" {
			continue
		}
		name := l.Ifname
		if len(l.Addresses) > 0 {
			address, _, _ := strings.Cut(l.Addresses[0], "/")
			name += " (" + address + ")"
		}
		lan = append(lan, name)
		names = append(names, l.Ifname)
	}
	bw := min(64, w-4)
	wired := fmt.Sprintf("no link is usable: %d says why", a.number(onNetwork))
	if len(lan) > 0 {
		if wired = "listening on " + strings.Join(lan, ", "); width(wired) > bw-15 {
			wired = "listening on " + strings.Join(names, ", ")
		}
	}
	title := "Looking for devices nearby..."
	if len(lan) == 0 && !a.radioReady() {
		title = "No network here leads to other devices."
	}
	blocks := [][]string{
		{centre(a.th.Bold.Render(title), bw)},
		{fit("Wi-Fi Direct", 15) + direct, fit("LAN", 15) + wired},
	}
	if hint := st.Radio.Hint; st.Radio.State != "ready" && hint != "" {
		blocks = append(blocks, wrap(sentence(hint), bw))
	}
	if in := st.Agent.Inbox; in != "" && h > 16 {
		blocks = append(blocks, []string{fit("This device", 15) + "is " + quoted(st.Name) + " to others", fit("Inbox", 15) + cutMiddle(in, bw-15)})
	}
	long := wrap("Nothing yet after 20 s? The other device must run nigh too, or have its Wi-Fi Direct screen open (Android: Settings > Wi-Fi > Wi-Fi preferences > Wi-Fi Direct).", bw)
	keys := []string{fmt.Sprintf("%d  see the links", a.number(onNetwork))}
	if !a.radioReady() {
		long = wrap("Nothing yet after 20 s? The other device must run nigh too, and be in the same network or on the same cable.", bw)
	} else {
		keys = []string{"s  look for Wi-Fi Direct devices now", fmt.Sprintf("%d  see the links, or create a group", a.number(onNetwork))}
	}
	// In a small window the air goes first, then what is longest: no sentence ends in its middle.
	short := []string{cut("The other device must run nigh too.", bw)}
	lines := blockLines(true, append(blocks, long, keys)...)
	if len(lines) > h {
		lines = blockLines(false, append(blocks, long, keys)...)
	}
	if len(lines) > h {
		lines = blockLines(true, append(blocks, short, keys)...)
	}
	if len(lines) > h {
		lines = blockLines(false, append(blocks, short, keys)...)
	}
	var out []string
	for range max(0, (h-len(lines))/3) {
		out = append(out, "")
	}
	for _, l := range lines {
		out = append(out, strings.Repeat(" ", (w-bw)/2)+cut(l, bw))
	}
	return out[:min(len(out), h)]
}

// blockLines puts paragraphs below each other, with an empty line between them where there is air.
func blockLines(air bool, blocks ...[]string) []string {
	var lines []string
	for i, b := range blocks {
		if i > 0 && air {
			lines = append(lines, "")
		}
		lines = append(lines, b...)
	}
	return lines
}
