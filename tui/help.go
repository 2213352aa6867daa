package tui

import "strings"

// words explains the words of the trade that the screens use.
var words = [][2]string{
	{"Direct", "Wi-Fi Direct (P2P): two devices without a router"},
	{"GO", "group owner: the device that plays access point for a group"},
	{"trusted", "paired with, or its ID was added; it may still have to ask"},
	{"new", "not paired with"},
	{"ready", "connected and its key is proved"},
	{"visible", "near, but not connected"},
	{"away", "known, but not near on any path"},
}

// newHelp lists the keys of the screen and those that work everywhere.
func newHelp(a *app) *scroller {
	in, title := noAgent, "Help"
	if a.st.known {
		in = a.screen().in()
	}
	th := a.th
	return &scroller{title: title, full: true, lines: func(w int) []string {
		here, all := sectionOf(in), sectionOf(everywhere)
		cw := w
		two := w >= 104
		if two {
			cw = (w - 2) / 2
		}
		left, right := helpLines(th.Bold.Render, here, cw), helpLines(th.Bold.Render, all, cw)
		var lines []string
		if two {
			for i := range max(len(left), len(right)) {
				l, r := "", ""
				if i < len(left) {
					l = left[i]
				}
				if i < len(right) {
					r = right[i]
				}
				lines = append(lines, fit(l, cw)+"  "+r)
			}
		} else {
			lines = append(append(append(lines, left...), ""), right...)
		}
		lines = append(lines, "", th.Bold.Render("Words"), "")
		for _, p := range words {
			for i, l := range wrap(p[1], w-10) {
				label := ""
				if i == 0 {
					label = p[0]
				}
				lines = append(lines, fit(label, 10)+l)
			}
		}
		return lines
	}}
}

func helpLines(bold func(string) string, s section, w int) []string {
	lines := []string{bold("Keys: " + strings.ToLower(s.title[:1]) + s.title[1:]), ""}
	if s.in != everywhere {
		lines[0] = bold("Keys on " + s.title)
	}
	for _, b := range s.bindings {
		if b.help == "" {
			continue
		}
		for i, l := range wrap(b.help, w-10) {
			label := ""
			if i == 0 {
				label = b.show
			}
			lines = append(lines, fit(label, 10)+l)
		}
	}
	return lines
}
