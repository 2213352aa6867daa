package doctor

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"nigh/link"
	"nigh/wpa"
)

// State says how a check ended.
type State string

// The states, from good to bad. Fail is kept for what stops everything; what is only worse than it could be is Warn.
const (
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// Check is the result of one check.
type Check struct {
	ID    string // stable word, such as "inbox"; one of [IDs]
	State State
	Cause string // what is so, in one plain sentence
	Fix   string // the one thing to do; empty when there is nothing to do
}

// Config says what to look at. A check whose subject is empty is left out.
type Config struct {
	State   string        // state folder of the agent
	Inbox   string        // folder of received files
	Socket  string        // socket of the local API
	Bus     string        // D-Bus address; "" = the system bus
	Ifname  string        // interface whose wpa_supplicant is asked; "" = find it
	Port    uint16        // TCP port of the sessions; 0 = 7421
	MinFree int64         // bytes that have to stay free for the inbox; 0 = 256 MiB
	Timeout time.Duration // limit of all checks; 0 = 20 s, more than the radio needs
	Given   []Check       // checks that the caller has made; they replace ours of the same ID

	// DialBack is what devices found that were asked to dial us back: the newest answer of each device on each interface.
	// Empty means that nobody was asked, not that all is well.
	DialBack []DialBack

	now                 func() time.Time
	etc, run, proc, sys string // where the system keeps its files
}

// DialBack is what came of asking a device to dial our session port back over one interface: the proof whether this
// machine lets connections in, which no reading of firewall rules gives. An Outcome that is none of the four says nothing.
type DialBack struct {
	Ifname  string // our interface that the device dialled, such as "eth0"
	Peer    string // name of the device, for people; it may be hostile
	Outcome string // [DialOpen], [DialRefused], [DialRejected] or [DialSilent]
}

// What may come of a dial back.
const (
	DialOpen     = "open"     // it got through
	DialRefused  = "refused"  // a reset: nobody listens, or a rule answers with a reset
	DialRejected = "rejected" // an ICMP error: a rule rejects it, as firewalld does
	DialSilent   = "silent"   // no answer in time: a rule drops it, as ufw does
)

const (
	defaultPort    = 7421
	defaultMinFree = 256 << 20
	defaultTimeout = 20 * time.Second
)

// section is a part of the result that is found out by itself.
type section struct {
	id  string // of the check that says that there was no answer in time
	run func(context.Context, Config) []Check
}

var sections = []section{
	{"agent", agent}, {"socket", socket}, {"state", state}, {"inbox", inbox}, {"clock", clock}, {"restarts", restarts}, {"brcm", brcm},
}

// Run makes all checks and returns them in the order of [IDs], the summary "usable" first. It blocks until the slowest check is
// done or out of time, and returns early, with what there is, when ctx ends.
func Run(ctx context.Context, c Config) []Check {
	c.complete()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()

	var own [][]Check
	pending := make([]chan []Check, len(sections))
	for i, s := range sections {
		pending[i] = background(func() []Check { return s.run(ctx, c) })
	}
	radioPending := background(func() []Check { return radio(ctx, c) })
	linksPending := background(func() []Check { return linkFindings(ctx) })
	networks, err := await(ctx, background(func() readLinks { return links(ctx) }), checkReturn)
	if err != nil {
		networks.err = err
	}
	firewallPending := background(func() []Check { return firewall(ctx, c, networks.usable()) })
	managersPending := background(func() []Check { return managers(ctx, c, networks.links) })
	for i, s := range sections {
		own = append(own, awaitChecks(ctx, s.id, pending[i]))
	}

	radioChecks, err := await(ctx, radioPending, radioReturn)
	if err != nil {
		radioChecks = []Check{{"supplicant", Fail, "wpa_supplicant gave no answer in time.", "Start it again: sudo systemctl restart wpa_supplicant"}}
	}
	linkChecks := awaitChecks(ctx, "links", linksPending)
	linkChecks = append(linkChecks, awaitChecks(ctx, "firewall", firewallPending)...)
	linkChecks = append(linkChecks, awaitChecks(ctx, "manager-conflict", managersPending)...)
	summary := usable(networks, radioChecks)
	if summary.State != Fail {
		// Something works all the same: what the radio or a link lacks is not the end.
		demote(radioChecks)
		demote(linkChecks)
	}
	found := slices.Concat([]Check{summary}, slices.Concat(own...), radioChecks, linkChecks)
	found = replace(found, c.Given)
	sort.SliceStable(found, func(i, j int) bool {
		a, b := found[i], found[j]
		return cmp.Compare(rank(a), rank(b)) < 0
	})
	return found
}

// rank is the place of a check in [IDs].
func rank(c Check) int {
	if i := slices.Index(IDs, c.ID); i >= 0 {
		return i
	}
	return len(IDs)
}

// complete fills in the defaults.
func (c *Config) complete() {
	c.Port = cmp.Or(c.Port, defaultPort)
	c.MinFree = cmp.Or(c.MinFree, defaultMinFree)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.etc, c.run = cmp.Or(c.etc, "/etc"), cmp.Or(c.run, "/run")
	c.proc, c.sys = cmp.Or(c.proc, "/proc"), cmp.Or(c.sys, "/sys")
	if c.now == nil {
		c.now = time.Now
	}
}

// Beside completes what an agent found with what only root may see: which program has a port, and the rules of a firewall where
// the agent lacks the right to read them. For other users it returns checks as they are. It takes seconds at most.
func Beside(ctx context.Context, c Config, checks []Check) []Check {
	if os.Geteuid() != 0 {
		return checks
	}
	c.complete()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	networks := links(ctx)
	return complement(checks, append(linkFindings(ctx), firewall(ctx, c, networks.usable())...))
}

// complement puts root's words in the place of the agent's where both say that the same thing is wrong, and where the agent could
// not see that it is.
func complement(checks, roots []Check) []Check {
	blind := slices.ContainsFunc(checks, func(c Check) bool { return c.ID == "caps" && c.State != OK })
	out := slices.Clone(checks)
	for i, c := range out {
		for _, r := range roots {
			switch {
			case r.ID != c.ID || r.State == OK:
			case (c.ID == "mdns" || c.ID == "foreign-dhcp") && c.State != OK, c.ID == "firewall" && blind:
				out[i].State, out[i].Cause, out[i].Fix = Warn, r.Cause, r.Fix
			}
		}
	}
	return out
}

// background runs fn in a goroutine of its own. One that hangs in a system call, on a dead network file system for example,
// is left behind: the person who asks what is wrong must get an answer.
func background[T any](fn func() T) chan T {
	c := make(chan T, 1)
	go func() { c <- fn() }()
	return c
}

// What obeys ctx is about to return when that ends: how long it may take for it. The radio has calls under way.
const (
	checkReturn = 200 * time.Millisecond
	radioReturn = 2 * time.Second
)

// await takes a result, also one that arrives within last of ctx's end.
func await[T any](ctx context.Context, c chan T, last time.Duration) (T, error) {
	select {
	case v := <-c:
		return v, nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(last)
	defer timer.Stop()
	select {
	case v := <-c:
		return v, nil
	case <-timer.C:
		var none T
		return none, ctx.Err()
	}
}

func awaitChecks(ctx context.Context, id string, c chan []Check) []Check {
	checks, err := await(ctx, c, checkReturn)
	if err != nil {
		return []Check{{id, Warn, fmt.Sprintf("The check %s gave no answer in time.", id), "Look whether a disk or a network file system hangs."}}
	}
	return checks
}

// replace puts better checks in the place of those of the same ID.
func replace(checks, better []Check) []Check {
	for _, b := range better {
		checks = slices.DeleteFunc(checks, func(c Check) bool { return c.ID == b.ID })
	}
	return append(checks, better...)
}

func demote(checks []Check) {
	for i := range checks {
		if checks[i].State == Fail {
			checks[i].State = Warn
		}
	}
}

func radio(ctx context.Context, c Config) []Check {
	var checks []Check
	for _, f := range wpa.Diagnose(ctx, wpa.Config{Bus: c.Bus, Ifname: c.Ifname}) {
		checks = append(checks, Check{f.ID, State(f.State), f.Cause, f.Fix})
	}
	return checks
}

func linkFindings(ctx context.Context) []Check {
	var checks []Check
	for _, f := range link.Diagnose(ctx) {
		checks = append(checks, Check{f.ID, State(f.State), f.Cause, f.Fix})
	}
	return checks
}

// readLinks is what is known of the links.
type readLinks struct {
	links []link.Link
	err   error
}

func (r readLinks) usable() []link.Link {
	return slices.DeleteFunc(slices.Clone(r.links), func(l link.Link) bool { return !l.Usable })
}

// links reads the links once.
func links(ctx context.Context) readLinks {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := link.NewMonitor(link.Config{})
	ended := background(func() error { return m.Run(ctx) })
	change, ok := <-m.Changes()
	cancel()
	err := <-ended
	if !ok && err == nil {
		err = ctx.Err()
	}
	return readLinks{change.Links, err}
}

// usable sums up what can work.
func usable(networks readLinks, radio []Check) Check {
	var works, missing []string
	for _, l := range networks.usable() {
		works = append(works, fmt.Sprintf("%s (%s)", l.Name, l.Kind))
	}
	if why := noDirect(radio); why == "" {
		works = append(works, "Wi-Fi Direct")
	} else {
		missing = append(missing, "Wi-Fi Direct does not work: "+why)
	}
	if networks.err != nil {
		missing = append(missing, fmt.Sprintf("The network links cannot be read: %v.", networks.err))
	} else if len(networks.usable()) == 0 {
		missing = append(missing, "No network link can be used.")
	}
	if len(works) == 0 {
		return Check{"usable", Fail, "Nothing can work. " + strings.Join(missing, " "),
			"Plug in a network cable or a Wi-Fi adapter, or join a Wi-Fi network."}
	}
	return Check{"usable", OK, strings.Join(append([]string{"Works: " + strings.Join(works, ", ") + "."}, missing...), " "), ""}
}

// noDirect says why Wi-Fi Direct does not work, and nothing when it does.
func noDirect(radio []Check) string {
	for _, c := range radio {
		if c.State == Fail {
			return c.Cause
		}
	}
	if len(radio) == 0 {
		return "nothing is known about the radio."
	}
	return ""
}
