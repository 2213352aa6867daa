package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

// pairTime is how long both users have, with room for the agent to say how it ended.
const pairTime = 90 * time.Second

// pairDialog pairs with a device.
//
//	state       event                     next
//	form        enter                     connecting
//	connecting  the code is known         comparing
//	connecting  esc, or it failed         closed, or failed
//	comparing   y                         waiting
//	comparing,  n, the other side's no,   closed, or failed
//	waiting     the end of time
//	waiting     the other side's yes      closed
//
// One that another device began starts at comparing. What other faces answer shows in
// the inbox item and in the outcome, which every face waits for.
type pairDialog struct {
	device, name string // of one that is begun here: whom to pair with
	method       *choice
	code         *field // the setup code; nil = codes are compared
	at           int    // selected line; 1 = the setup code
	wrong        string

	id     string             // of the pairing, "" before there is one
	asked  control.InboxItem  // as it was last
	cancel context.CancelFunc // ends the call that is under way; nil without
	said   bool               // yes was said here
	err    error              // why it failed
}

type (
	pairBegunMsg struct {
		d   *pairDialog
		p   control.Pairing
		err error
	}
	pairOverMsg struct {
		d   *pairDialog
		p   control.Pairing
		err error
	}
)

// newPair pairs with a device that a person chose.
func newPair(device, name string) *pairDialog {
	return &pairDialog{device: device, name: name,
		method: &choice{"Confirm by", []string{"comparing a code on both", "its setup code"}, 0}}
}

// newPairQuestion shows the pairing of an inbox item.
func newPairQuestion(q *question) *pairDialog {
	return &pairDialog{name: askerOf(q.InboxItem), id: q.ID, asked: q.InboxItem}
}

// begin opens the dialog of a question and waits for its outcome.
func (d *pairDialog) begin(a *app, byItself bool) tea.Cmd {
	return tea.Batch(a.open(d, byItself), d.await(a))
}

// await waits until the pairing is over, whoever answers it.
func (d *pairDialog) await(a *app) tea.Cmd {
	ctx, cancel := context.WithTimeout(a.ctx, pairTime)
	d.cancel = cancel
	ctl, id := a.ctl, d.id
	return func() tea.Msg {
		defer cancel()
		p, err := ctl.WaitPairing(ctx, id)
		return pairOverMsg{d, p, err}
	}
}

// now returns the inbox item as it is, or as it was last.
func (d *pairDialog) now(a *app) control.InboxItem {
	if q := a.st.question(d.id); q != nil && d.id != "" {
		d.asked = q.InboxItem
	}
	return d.asked
}

func (d *pairDialog) phase(a *app) string {
	switch {
	case d.err != nil:
		return "failed"
	case d.id == "" && d.cancel == nil:
		return "form"
	case d.id == "":
		return "connecting"
	case d.said || d.now(a).Answered:
		return "waiting"
	}
	return "comparing"
}

func (d *pairDialog) draw(a *app, w, h int) panel {
	p := panel{title: "Pair with " + cut(d.name, 40)}
	switch d.phase(a) {
	case "form":
		p.content = append([]string{""}, wrap("From then on the two trust each other: both know the other's key, and names cannot be imitated.", w)...)
		p.content = append(p.content, "", d.line(a, 0, fit(d.method.label, 12)+"< "+fit(d.method.values[d.method.at], min(28, w-20))+" >"))
		if d.code != nil {
			p.content = append(p.content, d.line(a, 1, fit("Setup code", 12)+d.code.draw(a.th, 26)), "")
			p.content = append(p.content, wrap("On it, nigh setup-code prints the code.", w)...)
		}
		if d.wrong != "" {
			p.content = append(p.content, "")
			for _, l := range wrap(printable(d.wrong, a.th.ASCIIOnly), w) {
				p.content = append(p.content, a.th.Bad.Render(l))
			}
		}
		p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	case "connecting":
		p.content = append([]string{""}, wrap("Connecting to "+d.name+" ...", w)...)
		p.content = append(p.content, "")
		p.content = append(p.content, wrap("If no network leads to it, it is asked for a Wi-Fi Direct group first; say yes there.", w)...)
		p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	case "failed":
		text, hint := sentences(d.err)
		p.content = []string{""}
		for _, l := range wrap(printable(text, a.th.ASCIIOnly), w) {
			p.content = append(p.content, a.th.Bad.Render(l))
		}
		p.content = append(p.content, wrap(printable(hint, a.th.ASCIIOnly), w)...)
		p.answers = []string{"", strings.Join(d.hints(a), "   ")}
	default:
		d.drawCode(a, &p, w, h)
	}
	return p
}

// drawCode draws the code to compare, the names and short IDs of both sides, and what
// can be answered.
func (d *pairDialog) drawCode(a *app, p *panel, w, h int) {
	now := d.now(a)
	if !now.Own {
		p.title = "Pair with a device?"
		if now.Trust == "new" {
			p.title = "Pair with a new device?"
		}
	}
	who := quoted(d.name) + " (" + shortID(now.Peer) + ")"
	if now.Own {
		p.content = wrap("You want to pair with "+who+".", w)
	} else {
		p.content = wrap(who+" wants to pair with this device.", w)
	}
	if now.Warning != "" {
		for _, line := range wrap(now.Warning, w) {
			p.content = append(p.content, a.th.Bad.Render(line))
		}
	}
	code := centre(a.th.Bold.Render(spacedCode(now.Code)), w)
	waiting := d.phase(a) == "waiting"
	if waiting {
		p.content = append(p.content, "", code, "")
		p.content = append(p.content, wrap("You said yes. Waiting for the answer on "+d.name+".", w)...)
	} else {
		p.content = append(p.content, wrap("Does it show this same code right now?", w)...)
		p.content = append(p.content, "", code, "")
		p.content = append(p.content, wrap("Only press y if the two codes are the same. If they differ, somebody may be in between: press n.", w)...)
	}
	left := "closes by itself"
	if q := a.st.question(d.id); q != nil {
		left = fmt.Sprintf("closes in %.0f s", q.left(a.now))
	}
	safe := "enter and esc mean no"
	if waiting {
		safe = "enter does nothing here"
	}
	p.answers = []string{""}
	p.answers = append(p.answers, answers(d.scope(a), w, nil)...)
	p.answers = append(p.answers, a.th.Dim.Render(fit(safe, w-width(left))+left))
	if own := a.st.status; len(p.content)+len(p.answers)+2 <= h && own.Name != "" {
		p.content = append(p.content, "")
		p.content = append(p.content, wrap("There, this device is "+quoted(own.Name)+" ("+own.Short+").", w)...)
	}
}

func (d *pairDialog) line(a *app, i int, text string) string {
	if i == d.at {
		return " " + a.th.Mark + " " + a.th.Bold.Render(text)
	}
	return "   " + text
}

// spacedCode writes six digits so that people can read them aloud.
func spacedCode(code string) string {
	var b strings.Builder
	for i, r := range code {
		if i > 0 {
			b.WriteByte(' ')
			if i%3 == 0 {
				b.WriteString("  ")
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (d *pairDialog) scope(a *app) scope {
	switch d.phase(a) {
	case "form":
		return inForm
	case "comparing":
		return inPair
	}
	return inSteps
}

func (d *pairDialog) hints(a *app) []string {
	switch d.phase(a) {
	case "form":
		return hintsOf(inForm, func(act action) bool { return act == actNext && d.code == nil })
	case "failed":
		hints := []string{"esc close"}
		if d.device != "" {
			hints = []string{"enter try again", "esc close"}
		}
		return hints
	}
	return hintsOf(d.scope(a), nil)
}

func (d *pairDialog) capturing() bool {
	return d.code != nil && d.at == 1 && d.id == "" && d.cancel == nil && d.err == nil
}

// alive is always true: the outcome closes the dialog, and says what it was.
func (d *pairDialog) alive(*app) bool { return true }

func (d *pairDialog) key(a *app, k tea.KeyMsg) tea.Cmd {
	key := k.String()
	switch d.phase(a) {
	case "form":
		return d.formKey(a, k)
	case "connecting":
		if find(key, inSteps) == actBack {
			d.cancel()
			return tea.Batch(a.close(d), a.say("Given up; nothing is trusted."))
		}
	case "waiting":
		if find(key, inSteps) == actBack {
			return d.refuse(a)
		}
	case "comparing":
		switch find(key, inPair) {
		case actYes:
			d.said = true
			ctl, id := a.ctl, d.id
			return a.call(10*time.Second, "", func(ctx context.Context) error {
				return unlessOver(ctl.Accept(ctx, id, control.AcceptRequest{}))
			})
		case actNo:
			return d.refuse(a)
		case actBlock:
			return d.block(a)
		}
	case "failed":
		switch act := find(key, inForm); {
		case act == actBack:
			return a.close(d)
		case act == actStart && d.device != "":
			return d.start(a)
		}
	}
	return nil
}

// unlessOver drops the error that a question is answered already, elsewhere or by its
// end: the outcome tells.
func unlessOver(err error) error {
	if errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		return nil
	}
	return err
}

// refuse says no, also after a yes.
func (d *pairDialog) refuse(a *app) tea.Cmd {
	d.cancel()
	ctl, id := a.ctl, d.id
	said := a.call(10*time.Second, "Not paired with "+d.name+"; nothing is trusted.", func(ctx context.Context) error {
		return unlessOver(ctl.Refuse(ctx, id))
	})
	return tea.Batch(said, a.close(d))
}

func (d *pairDialog) block(a *app) tea.Cmd {
	peer, name := d.now(a).Peer, d.name
	return a.open(&confirmation{
		title: "Block this device?",
		text:  []string{fmt.Sprintf("Nothing from %s (%s) will get through.", quoted(name), shortID(peer))},
		yes:   "block", no: "do not block",
		do: func(a *app) tea.Cmd {
			return tea.Batch(d.refuse(a), a.changeTrust(control.TrustRequest{Action: "block", Device: peer}, name+" is blocked."))
		},
		subject: func(a *app) bool { return a.st.question(d.id) != nil },
	}, false)
}

func (d *pairDialog) formKey(a *app, k tea.KeyMsg) tea.Cmd {
	if d.capturing() {
		switch k.Type {
		case tea.KeyEnter, tea.KeyEsc, tea.KeyTab, tea.KeyShiftTab, tea.KeyUp, tea.KeyDown:
		default:
			d.wrong = ""
			d.code.key(k)
			return nil
		}
	}
	switch find(k.String(), inForm) {
	case actBack:
		return a.close(d)
	case actStart:
		return d.start(a)
	case actNext, actUp:
		if d.code != nil {
			d.at = 1 - d.at
		}
	case actChange:
		d.method.at = 1 - d.method.at
		d.code, d.wrong = nil, ""
		if d.method.at == 1 {
			d.code = newField("", 64)
		}
	}
	return nil
}

// start asks the agent to pair, or goes to what is missing in the form.
func (d *pairDialog) start(a *app) tea.Cmd {
	r := control.PairRequest{Device: d.device}
	if d.code != nil {
		if r.Code = strings.TrimSpace(d.code.value()); r.Code == "" {
			d.at, d.wrong = 1, "Type the code that nigh setup-code prints there."
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(a.ctx, groupTime)
	d.cancel, d.err, d.wrong, d.id, d.said = cancel, nil, "", "", false
	a.st.steps = nil
	ctl := a.ctl
	return func() tea.Msg {
		defer cancel()
		p, err := ctl.Pair(ctx, r)
		return pairBegunMsg{d, p, err}
	}
}

func (d *pairDialog) update(a *app, msg tea.Msg) tea.Cmd {
	switch m := msg.(type) {
	case pairBegunMsg:
		if m.d == d {
			return d.begun(a, m)
		}
	case pairOverMsg:
		if m.d == d {
			return d.over(a, m)
		}
	}
	return nil
}

// begun takes the answer to start.
func (d *pairDialog) begun(a *app, m pairBegunMsg) tea.Cmd {
	d.cancel = nil
	switch {
	case errors.Is(m.err, &control.Error{Code: control.CodeUsage}) && d.code != nil:
		d.wrong, _ = sentences(m.err)
		d.at = 1
		return nil
	case m.err != nil:
		d.err = m.err
		return nil
	case m.p.State == "paired":
		return d.paired(a, m.p.Peer)
	}
	d.id = m.p.ID
	d.asked = control.InboxItem{ID: m.p.ID, Kind: "pair", Peer: m.p.Peer, PeerName: m.p.PeerName, Trust: "new", Expires: m.p.Expires,
		Code: m.p.Code, Own: m.p.Own, Answered: m.p.State == "waiting", Warning: m.p.Warning}
	if q := a.st.question(d.id); q != nil {
		q.shown, q.rung = true, true
	}
	return d.await(a)
}

// over takes the outcome.
func (d *pairDialog) over(a *app, m pairOverMsg) tea.Cmd {
	d.cancel = nil
	if errors.Is(m.err, context.Canceled) {
		return nil
	}
	if m.err != nil {
		d.err = m.err
		return nil
	}
	return d.paired(a, d.asked.Peer)
}

// paired closes the dialog and asks what else the device may do, unless it may already.
func (d *pairDialog) paired(a *app, id string) tea.Cmd {
	name := d.name
	said := a.say("Paired with " + name + ": the two trust each other.")
	asks := func(a *app) bool {
		p := a.st.peer(id)
		return p == nil || !p.AutoAccept && p.Trust != "blocked"
	}
	if id == "" || a.st.status.Agent.Accept != "ask" || !asks(a) {
		return tea.Batch(a.close(d), said)
	}
	// It is put under the dialog before that is closed, so that no other question comes between.
	question := &confirmation{
		title: "Let it send without asking?",
		text: []string{
			"Paired with " + quoted(name) + ". From now on everything it sends may be taken without asking, as long as its key stays the same.",
			"a on the device, in Peers, changes this at any time.",
		},
		yes: "let it", no: "ask each time",
		do:      func(a *app) tea.Cmd { return a.mayAlwaysSend(id, name) },
		subject: asks,
	}
	return tea.Batch(a.open(question, true), a.close(d), said)
}
