package tui

import (
	"context"
	"fmt"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

func (s *peersScreen) idle(a *app, act action) bool {
	p := a.st.peer(s.list.key)
	switch {
	case act == actScan:
		return !a.radioReady()
	case p == nil:
		return true
	case act == actMessage:
		return p.Trust != "trusted"
	case act == actConnect:
		return !a.radioReady() || !slices.ContainsFunc(p.Paths, func(p control.Path) bool { return p.Kind == "direct" && !p.Active })
	case act == actPair:
		return p.Trust != "new"
	case act == actBlock:
		return p.Trust == "blocked"
	case act == actUnblock:
		return p.Trust != "blocked"
	case act == actForget:
		return p.Trust == "new"
	case act == actAccess:
		return p.Trust != "trusted"
	case act == actSend:
		return p.Trust == "blocked" || p.ID == ""
	}
	return false
}

func (s *peersScreen) act(a *app, act action) tea.Cmd {
	switch act {
	case actScan:
		return a.scan()
	case actOwnCode:
		return openOwnCode(a)
	}
	p := s.peer(a)
	if p == nil {
		if s.list.filter != "" {
			return a.fail("No device passes the filter, so none is selected.", "Press esc twice to clear the filter.")
		}
		return a.fail("No device is near or known yet.", "nigh must run on the other one too.")
	}
	switch act {
	case actSend:
		return s.send(a, p)
	case actMessage:
		if p.Trust != "trusted" {
			return a.fail("Messages are for trusted devices.", "Pair with it first: p.")
		}
		return a.write(p.ID)
	case actConnect:
		return s.connect(a, p)
	case actPair:
		return s.pair(a, p)
	case actBlock:
		return s.block(a, p)
	case actUnblock:
		if p.Trust != "blocked" {
			return a.fail(nameOf(p.Peer)+" is not blocked.", "")
		}
		return a.changeTrust(control.TrustRequest{Action: "remove", Device: p.ID}, nameOf(p.Peer)+" is not blocked any more; it is new again.")
	case actForget:
		return s.forget(a, p)
	case actAccess:
		return s.access(a, p)
	}
	return nil
}

// scan looks for Wi-Fi Direct devices.
func (a *app) scan() tea.Cmd {
	if !a.radioReady() {
		return a.noRadio()
	}
	const seconds = 30
	ctl := a.ctl
	return a.call(10*time.Second, fmt.Sprintf("Looking for Wi-Fi Direct devices for %d s.", seconds), func(ctx context.Context) error {
		return ctl.Find(ctx, control.FindRequest{Seconds: seconds})
	})
}

func (a *app) changeTrust(r control.TrustRequest, text string) tea.Cmd {
	ctl := a.ctl
	return a.call(10*time.Second, text, func(ctx context.Context) error {
		_, err := ctl.ChangeTrust(ctx, r)
		return err
	})
}

func (s *peersScreen) send(a *app, p *peer) tea.Cmd {
	name := nameOf(p.Peer)
	switch {
	case p.ID == "":
		return a.fail(name+" has not shown who it is yet.", "Press c to connect to it first.")
	case p.Trust == "blocked":
		return a.fail(name+" is blocked.", "Press u to unblock it first.")
	}
	pick := newPicker(a, p.ID, name)
	open := func(a *app) tea.Cmd { return tea.Batch(a.open(pick, false), pick.read()) }
	switch {
	case p.Trust != "trusted":
		return a.open(&confirmation{
			title: "Send to a new device?",
			text: []string{
				fmt.Sprintf("This device is not paired with %s, so it may be another one with the same name.", quoted(name)),
				"Its ID begins with " + p.Short + ".",
				"No goes back; then p pairs with it.",
			},
			yes: "send anyway", no: "go back", do: open,
		}, false)
	case p.State == "away":
		return a.open(&confirmation{
			title: "Send later?",
			text:  []string{name + " is away. What you choose waits here and goes when it is near again."},
			yes:   "choose files", no: "go back", do: open,
		}, false)
	}
	return open(a)
}

func (s *peersScreen) connect(a *app, p *peer) tea.Cmd {
	name := nameOf(p.Peer)
	device := p.ID
	found := false
	for _, path := range p.Paths {
		if path.Kind != "direct" {
			continue
		}
		found = true
		if path.Active {
			return a.fail(name+" is connected over Wi-Fi Direct already.", "")
		}
		if device == "" {
			device = path.Address
		}
	}
	switch {
	case p.Trust == "blocked":
		return a.fail(name+" is blocked.", "Press u to unblock it first.")
	case !a.radioReady():
		return a.noRadio()
	case !found:
		return a.fail(name+" is not seen over Wi-Fi Direct.", "Press s to look for 30 s.")
	}
	return a.open(newConnect(device, name), false)
}

func (a *app) radioReady() bool { return a.st.status.Radio.State == "ready" }

// noRadio says why Wi-Fi Direct cannot be used and what to do.
func (a *app) noRadio() tea.Cmd {
	r := a.st.status.Radio
	if r.State == "absent" {
		return a.fail("Wi-Fi Direct is not possible here.", sentence(r.Hint))
	}
	return a.fail("Wi-Fi Direct cannot be used: "+radioText(r.State, r.Ifname)+".", sentence(r.Hint))
}

func (s *peersScreen) pair(a *app, p *peer) tea.Cmd {
	name, device := nameOf(p.Peer), p.ID
	for _, path := range p.Paths {
		if device == "" && path.Kind == "direct" {
			device = path.Address // it shows who it is once a group stands
		}
	}
	switch {
	case device == "":
		return a.fail(name+" has not shown who it is yet.", "")
	case p.Trust == "trusted":
		return a.fail(name+" is trusted already.", "X forgets it.")
	case p.Trust == "blocked":
		return a.fail(name+" is blocked.", "Press u to unblock it first.")
	}
	return a.open(newPair(device, name), false)
}

func (s *peersScreen) block(a *app, p *peer) tea.Cmd {
	name, id := nameOf(p.Peer), p.ID
	switch {
	case id == "":
		return a.fail(name+" has not shown who it is, so there is no identity to block.", "")
	case p.Trust == "blocked":
		return a.fail(name+" is blocked already.", "Press u to unblock it.")
	}
	return a.open(&confirmation{
		title: "Block this device?",
		text:  []string{fmt.Sprintf("Nothing from %s (%s) will get through, and transfers with it end.", quoted(name), p.Short)},
		yes:   "block", no: "do not block",
		do: func(a *app) tea.Cmd {
			return a.changeTrust(control.TrustRequest{Action: "block", Device: id}, name+" is blocked.")
		},
	}, false)
}

// copied is the ID of the device, or its address while that is not known.
func (s *peersScreen) copied(a *app) (what, text string) {
	p := s.peer(a)
	switch {
	case p == nil:
		return "", ""
	case p.ID != "":
		return "the ID", p.ID
	case len(p.Paths) > 0:
		return "the address", p.Paths[0].Address
	}
	return "", ""
}

// access asks what a trusted device may do.
func (s *peersScreen) access(a *app, p *peer) tea.Cmd {
	name, id := nameOf(p.Peer), p.ID
	if p.Trust != "trusted" {
		return a.fail(name+" is not trusted: every offer asks.", "Pair with it first: p.")
	}
	may := &choice{"Sends files", []string{"after a yes here, each time", "without asking"}, 0}
	if p.AutoAccept {
		may.at = 1
	}
	return a.open(&form{
		title: "What " + cut(name, 30) + " may do", lines: []*choice{may},
		intro: "Which shares it sees is said in each share: Shares, then w. nigh trust set has sizes, rates and folders.",
		take: func(a *app, _ string) (tea.Cmd, string) {
			if may.at == 1 {
				return a.mayAlwaysSend(id, name), ""
			}
			no := false
			return a.changeTrust(control.TrustRequest{Action: "set", Device: id, AutoAccept: &no}, name+" is asked about before it sends."), ""
		},
		subject: func(a *app) bool { p := a.st.peer(id); return p != nil && p.Trust == "trusted" },
	}, false)
}

// mayAlwaysSend has what a device sends taken without asking from now on.
func (a *app) mayAlwaysSend(id, name string) tea.Cmd {
	yes := true
	return a.changeTrust(control.TrustRequest{Action: "set", Device: id, AutoAccept: &yes}, name+" may send without asking.")
}

func (s *peersScreen) forget(a *app, p *peer) tea.Cmd {
	name, id := nameOf(p.Peer), p.ID
	if id == "" || p.Trust == "new" {
		return a.fail(name+" is new: there is nothing to forget.", "")
	}
	return a.open(&confirmation{
		title: "Forget this device?",
		text:  []string{fmt.Sprintf("%s (%s) becomes new: to trust it again somebody has to pair with it again. Files that were received stay.", quoted(name), p.Short)},
		yes:   "forget", no: "keep",
		do: func(a *app) tea.Cmd {
			return a.changeTrust(control.TrustRequest{Action: "remove", Device: id}, name+" is forgotten.")
		},
	}, false)
}

// quoted shows where a name of another device begins and ends.
func quoted(name string) string { return `"` + cut(name, 32) + `"` }
