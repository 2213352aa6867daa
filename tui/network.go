package tui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// networkScreen shows the Wi-Fi Direct groups and every link with the reason
// when it is not used.
type networkScreen struct{ list list }

func (s *networkScreen) title() string  { return "Network" }
func (s *networkScreen) badge(*app) int { return 0 }
func (s *networkScreen) in() scope      { return onNetwork }
func (s *networkScreen) rows() *list    { return &s.list }

// The keys of the list are "group:" and "link:" and the interface name.
func (s *networkScreen) sync(a *app) (groups []control.Group, links []control.Link) {
	var keys []string
	for _, g := range a.st.status.Groups {
		if s.list.matches(g.SSID, g.Ifname) {
			groups = append(groups, g)
			keys = append(keys, "group:"+g.Ifname)
		}
	}
	for _, l := range a.st.status.Links {
		if s.list.matches(l.Ifname, l.Kind, l.Why) {
			links = append(links, l)
			keys = append(keys, "link:"+l.Ifname)
		}
	}
	s.list.set(keys)
	return groups, links
}

func (s *networkScreen) draw(a *app, w, h int) []string {
	groups, links := s.sync(a)
	title, detail := "nothing to show", []pair(nil)
	for _, g := range groups {
		if "group:"+g.Ifname == s.list.key {
			title, detail = g.SSID, a.groupPairs(g)
		}
	}
	for _, l := range links {
		if "link:"+l.Ifname == s.list.key {
			title, detail = l.Ifname, linkPairs(l)
		}
	}
	return a.withDetail(w, h, 0, title,
		func(w, h int) []string { return s.table(a, groups, links, w, h) },
		func(w, h int) []string { return pairs(w, h, detail...) })
}

func (s *networkScreen) table(a *app, groups []control.Group, links []control.Link, w, h int) []string {
	tight := h < 9 // every line counts
	lines := s.radio(a, w, tight)
	gt := newTable(w, column{"GROUP", 0, false}, column{"ROLE", 13, false}, column{"FREQUENCY", 11, false}, column{"CLIENTS", 9, false})
	lt := newTable(w, column{"LINK", 17, false}, column{"KIND", 10, false}, column{"USED", 6, false}, column{"ADDRESS, OR WHY NOT", 0, false})
	if len(groups) > 0 || !tight {
		lines = append(lines, gt.head(a))
	}
	if len(groups) == 0 {
		text := "   no group"
		if a.radioReady() {
			text += ": c creates one, or c on a device in Peers joins it"
		}
		lines = append(lines, text)
	}
	room := h - len(lines) - 1
	if room > len(groups)+len(links) {
		room--
	}
	first, end := s.list.window(room)
	head := func() {
		if end-first < room {
			lines = append(lines, "")
		}
		lines = append(lines, lt.head(a))
	}
	for i := first; i < end; i++ {
		if i < len(groups) {
			g := groups[i]
			s.list.drew(len(lines), i)
			lines = append(lines, gt.row(a, "group:"+g.Ifname == s.list.key,
				cell{g.SSID, nil}, cell{roleText(g.Role), nil}, cell{frequencyText(g.Frequency), nil}, cell{clientsText(g), nil}))
			continue
		}
		if i == len(groups) || i == first {
			head()
		}
		l := links[i-len(groups)]
		used, what, style := "yes", strings.Join(l.Addresses, ", "), a.th.Good.Render
		if !l.Usable {
			used, what, style = "no", l.Why, nil
			if what == "" {
				what = "it has no address"
			}
		}
		s.list.drew(len(lines), i)
		lines = append(lines, lt.row(a, "link:"+l.Ifname == s.list.key,
			cell{l.Ifname, nil}, cell{l.Kind, nil}, cell{used, style}, cell{what, nil}))
	}
	if len(links) == 0 {
		lines = append(lines, "", "   no network link")
	}
	return lines
}

// radio is the state of Wi-Fi Direct, with what to do when it cannot be used.
func (s *networkScreen) radio(a *app, w int, tight bool) []string {
	r := a.st.status.Radio
	text := radioState(r)
	if r.State == "ready" {
		switch r.Engine {
		case "system":
			text += ", the system's wpa_supplicant"
		case "private":
			text += ", an own wpa_supplicant"
		case "networkmanager":
			text += ", through NetworkManager"
		}
		if r.Finding {
			text += ", looking for devices"
		}
	}
	style := a.th.Plain.Render
	if r.State != "ready" && r.State != "disabled" {
		style = a.th.Warn.Render
	}
	lines := []string{" " + fit("Wi-Fi Direct", 14) + style(cut(text, w-16))}
	hint := ""
	if r.State != "ready" {
		hint = sentence(r.Hint)
	}
	if tight {
		if hint != "" {
			lines = append(lines, " "+cut(hint, w-2))
		}
		return lines
	}
	for _, l := range wrap(hint, w-16) {
		lines = append(lines, strings.Repeat(" ", 15)+l)
	}
	return append(lines, "")
}

func roleText(role string) string {
	if role == "GO" {
		return "group owner"
	}
	return role
}

func clientsText(g control.Group) string {
	switch {
	case g.Reconnecting:
		return "reconnecting"
	case g.Role != "GO":
		return "-"
	}
	return fmt.Sprint(g.Clients)
}

func frequencyText(mhz int) string {
	if mhz == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MHz", mhz)
}

// channel returns the Wi-Fi channel of a frequency in MHz, 0 when it has none.
func channel(mhz int) int {
	switch {
	case mhz == 2484:
		return 14
	case mhz >= 2412 && mhz <= 2472:
		return (mhz - 2407) / 5
	case mhz >= 5160 && mhz <= 5885:
		return (mhz - 5000) / 5
	case mhz >= 5955 && mhz <= 7115:
		return (mhz - 5950) / 5
	}
	return 0
}

func (a *app) groupPairs(g control.Group) []pair {
	frequency := frequencyText(g.Frequency)
	if c := channel(g.Frequency); c != 0 {
		frequency += fmt.Sprintf(" (channel %d)", c)
	}
	role := roleText(g.Role)
	if g.Role == "GO" {
		role += " (GO), " + count(g.Clients, "client")
	}
	var addresses []string
	for _, x := range []string{g.Address, g.LinkLocal} {
		if x != "" {
			addresses = append(addresses, x)
		}
	}
	if g.Persistent {
		role += ", persistent"
	}
	return []pair{
		{"Role", role, nil},
		{"Frequency", frequency, nil},
		{"Address", strings.Join(addresses, ", ") + " on " + g.Ifname, nil},
		{"Members", strings.Join(memberTexts(g), ", "), nil},
		{"Up for", clockText(float64(g.Uptime) + a.now.Sub(a.st.statusAt).Seconds()), nil},
	}
}

// memberTexts are the devices in a group of ours: a nigh device by its name, another
// one, such as a phone, by the address that it was given.
func memberTexts(g control.Group) []string {
	if len(g.Stations) == 0 {
		return g.Members
	}
	var texts []string
	for _, s := range g.Stations {
		texts = append(texts, cmp.Or(s.Name, s.IPv4, s.Address))
	}
	return texts
}

func linkPairs(l control.Link) []pair {
	state := "down"
	if l.Up {
		state = "up"
	}
	used := "yes"
	if !l.Usable {
		used = "no: " + l.Why
	}
	return []pair{
		{"Used", used, nil},
		{"Link", l.Kind + ", " + state, nil},
		{"Addresses", strings.Join(l.Addresses, ", "), nil},
	}
}

// copied is the address on the selected group or link.
func (s *networkScreen) copied(a *app) (what, text string) {
	for _, g := range a.st.status.Groups {
		if "group:"+g.Ifname == s.list.key {
			return "the name of the group", g.SSID
		}
	}
	for _, l := range a.st.status.Links {
		if "link:"+l.Ifname == s.list.key && len(l.Addresses) > 0 {
			address, _, _ := strings.Cut(l.Addresses[0], "/")
			return "the address", address
		}
	}
	return "", ""
}

func (s *networkScreen) idle(a *app, act action) bool {
	switch act {
	case actLeave:
		return len(a.st.status.Groups) == 0
	case actPhones:
		return !slices.ContainsFunc(a.st.status.Groups, func(g control.Group) bool { return g.Role == "GO" })
	}
	return !a.radioReady()
}

func (s *networkScreen) act(a *app, act action) tea.Cmd {
	s.sync(a)
	switch act {
	case actScan:
		return a.scan()
	case actCreate:
		if !a.radioReady() {
			return a.noRadio()
		}
		return a.open(newCreate(), false)
	case actPhones:
		return s.phones(a)
	case actLeave:
		return s.leave(a)
	}
	return nil
}

func (s *networkScreen) leave(a *app) tea.Cmd {
	groups := a.st.status.Groups
	var g *control.Group
	for i := range groups {
		if len(groups) == 1 || "group:"+groups[i].Ifname == s.list.key {
			g = &groups[i]
		}
	}
	switch {
	case len(groups) == 0:
		return a.fail("There is no group to leave.", "")
	case g == nil:
		return a.fail("There are several groups.", "Select the one to leave.")
	}
	ifname, ssid, ctl := g.Ifname, g.SSID, a.ctl
	text, yes, done := "This device leaves the group. Transfers over it go on over another path, or wait.", "leave", "Left "+ssid+"."
	if g.Role == "GO" {
		text, yes, done = "This device is the group owner: the group ends for "+count(g.Clients, "client")+" too. Transfers over it go on over another path, or wait.", "end it", "Ended "+ssid+"."
	}
	return a.open(&confirmation{
		title: "Leave " + cut(ssid, 40) + "?",
		text:  []string{text},
		yes:   yes, no: "stay",
		do: func(a *app) tea.Cmd {
			return a.call(30*time.Second, done, func(ctx context.Context) error { return ctl.LeaveGroup(ctx, ifname) })
		},
		subject: func(a *app) bool {
			for _, g := range a.st.status.Groups {
				if g.Ifname == ifname {
					return true
				}
			}
			return false
		},
	}, false)
}
