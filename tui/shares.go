package tui

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"nigh/agent/control"
)

const (
	// sharesEvery is how old the list of our own shares gets while it is looked at:
	// their numbers change while they are indexed, and no event says so.
	sharesEvery = 3 * time.Second
	// maxListed bounds the entries of another device's folder that are shown.
	maxListed = 10000
)

// sharesScreen shows our own shares and the trusted devices, whose shares can be
// looked into and searched.
type sharesScreen struct {
	list    list
	mine    []control.Share
	mineAt  time.Time // of the last answer
	asking  bool      // for mine
	place   place
	shown   []shared // of the place
	serial  int      // of the place; answers for older ones are dropped
	loading bool
	note    string // what there is to say about the place
	err     string // why the place could not be read
}

// place is where the list is: at the top, in a device, share or folder, or in the
// results of a search.
type place struct {
	device, name string // DeviceID and what to call it
	share, path  string
	query        string
}

func (p place) top() bool { return p.device == "" && p.query == "" }

// title is the place in words.
func (p place) title() string {
	switch {
	case p.query != "":
		return "Found: " + p.query
	case p.share == "":
		return p.name
	}
	return p.name + ": " + path.Join(p.share, p.path)
}

// shared is one thing that others share: a share, a folder or a file. Its names
// are as they are there; label and detail were made fit for a screen.
type shared struct {
	share, path string
	folder      bool
	size        int64
	files       int // of a share
	modified    string
	hash        string
	holders     []control.ShareHolder // of a search
	label       string
	detail      string
}

type (
	mineMsg struct {
		list []control.Share
		err  error
	}
	listedMsg struct {
		serial  int
		listing control.Listing
		found   *control.SearchAnswer
		err     error
		more    <-chan listedMsg // of a search that goes on
	}
)

func (s *sharesScreen) title() string  { return "Shares" }
func (s *sharesScreen) badge(*app) int { return 0 }
func (s *sharesScreen) in() scope      { return onShares }
func (s *sharesScreen) rows() *list    { return &s.list }

// The keys of rows at the top begin so; those of a place are numbers.
const (
	ownRow    = "own "
	deviceRow = "on "
)

// sync takes the rows there are now.
func (s *sharesScreen) sync(a *app) {
	var keys []string
	if !s.place.top() {
		for i, e := range s.shown {
			if s.list.matches(e.label, e.detail) {
				keys = append(keys, fmt.Sprint(i))
			}
		}
		s.list.set(keys)
		return
	}
	for _, m := range s.mine {
		if s.list.matches(m.Name, m.Folder) {
			keys = append(keys, ownRow+m.Name)
		}
	}
	for _, p := range a.st.peers {
		if p.ID != "" && p.Trust == "trusted" && s.list.matches(p.Name) {
			keys = append(keys, deviceRow+p.ID)
		}
	}
	s.list.set(keys)
}

// own is the share of ours that is selected, or nil.
func (s *sharesScreen) own() *control.Share {
	name, ok := strings.CutPrefix(s.list.key, ownRow)
	for i := range s.mine {
		if ok && s.place.top() && s.mine[i].Name == name {
			return &s.mine[i]
		}
	}
	return nil
}

// device is the trusted device that is selected, or nil.
func (s *sharesScreen) device(a *app) *peer {
	if id, ok := strings.CutPrefix(s.list.key, deviceRow); ok && s.place.top() {
		return a.st.peer(id)
	}
	return nil
}

// entry is what is selected of what others share, or nil.
func (s *sharesScreen) entry() *shared {
	i := 0
	if _, err := fmt.Sscan(s.list.key, &i); err != nil || s.place.top() || i >= len(s.shown) {
		return nil
	}
	return &s.shown[i]
}

// refresh asks for our shares when what is here is old.
func (s *sharesScreen) refresh(a *app) tea.Cmd {
	if s.asking || !a.conn.up || !s.mineAt.IsZero() && a.now.Sub(s.mineAt) < sharesEvery {
		return nil
	}
	s.asking = true
	ctx, ctl := a.ctx, a.ctl
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		list, err := ctl.Shares(ctx)
		return mineMsg{list, err}
	}
}

// took takes an answer of the agent about shares.
func (s *sharesScreen) took(a *app, msg tea.Msg) tea.Cmd {
	switch m := msg.(type) {
	case mineMsg:
		if s.mineAt.IsZero() && s.place.top() {
			s.list.key, s.list.at = "", 0 // the devices were there before our shares
		}
		s.asking, s.mineAt = false, a.now
		if m.err != nil {
			return a.done(doneMsg{err: m.err})
		}
		s.mine = m.list
		for i := range s.mine {
			scrubShare(&s.mine[i], a.th.ASCIIOnly)
		}
	case listedMsg:
		var cmd tea.Cmd
		if m.serial == s.serial {
			cmd = s.listed(a, m)
		}
		if m.more != nil {
			return nextListed(m.more) // of one that was left, too: it must not be kept waiting
		}
		return cmd
	}
	return nil
}

func nextListed(more <-chan listedMsg) tea.Cmd {
	return func() tea.Msg {
		if m, ok := <-more; ok {
			return m
		}
		return nil
	}
}

// scrubShare makes the texts of a share fit for a screen, but for its name, by
// which it is removed and which is nigh's own.
func scrubShare(m *control.Share, asciiOnly bool) {
	for _, text := range []*string{&m.Folder, &m.Error, &m.Hint, &m.Notice} {
		*text = printable(*text, asciiOnly)
	}
	for i := range m.For {
		m.For[i].Name = printable(m.For[i].Name, asciiOnly)
	}
}

// visit goes to a place and asks for what is there.
func (s *sharesScreen) visit(a *app, p place) tea.Cmd {
	s.serial++
	s.place, s.shown, s.note, s.err = p, nil, "", ""
	s.list = list{}
	if p.top() {
		s.loading = false
		return nil
	}
	return s.load(a, "")
}

// load asks for what is at the place, from a name on.
func (s *sharesScreen) load(a *app, after string) tea.Cmd {
	s.loading = true
	serial, p, ctx, ctl := s.serial, s.place, a.ctx, a.ctl
	if p.query != "" {
		news := make(chan listedMsg)
		return tea.Batch(nextListed(news), func() tea.Msg {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			tell := func(m listedMsg) error {
				select {
				case news <- m:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			last, err := ctl.SearchEach(ctx, control.SearchRequest{Query: p.query}, func(list []control.ShareEntry) error {
				return tell(listedMsg{serial: serial, found: &control.SearchAnswer{Results: list}, more: news})
			})
			_ = tell(listedMsg{serial: serial, found: &last, err: err}) // in this order; without ctx nobody looks
			close(news)
			return nil
		})
	}
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, time.Minute) // the device may have to be found first
		defer cancel()
		m := listedMsg{serial: serial}
		m.listing, m.err = ctl.Browse(ctx, control.BrowseRequest{Device: p.device, Share: p.share, Path: p.path, After: after})
		return m
	}
}

// listed takes a page of a place.
func (s *sharesScreen) listed(a *app, m listedMsg) tea.Cmd {
	s.loading = m.more != nil
	if m.err != nil {
		text, hint := sentences(m.err)
		s.err = printable(strings.TrimSpace(text+" "+hint), a.th.ASCIIOnly)
		return nil
	}
	clean := func(text string) string { return printable(text, a.th.ASCIIOnly) }
	if m.found != nil {
		for _, e := range m.found.Results {
			if len(e.Holders) > 0 {
				where := e.Holders[0].Device.Name
				if n := len(e.Holders) - 1; n > 0 {
					where += fmt.Sprintf(" and %d more", n)
				}
				where += ": " + path.Join(e.Holders[0].Share, e.Holders[0].Path)
				s.take(entryOf(e, e.Holders[0].Share, e.Holders[0].Path, clean(e.Name), clean(where)))
			}
		}
		if m.more != nil {
			return nil
		}
		s.note = count(m.found.Asked, "device") + " asked"
		if n := len(m.found.Silent); n > 0 {
			s.note += fmt.Sprintf(", %d did not answer", n)
		}
		if m.found.More {
			s.note += "; there is more: use more words"
		}
		return nil
	}
	for _, r := range m.listing.Shares {
		s.shown = append(s.shown, shared{share: r.Name, folder: true, size: r.Bytes, files: r.Files, label: clean(r.Name), detail: clean(r.State)})
	}
	last := ""
	for _, e := range m.listing.Entries {
		s.shown = append(s.shown, entryOf(e, s.place.share, path.Join(s.place.path, e.Name), clean(e.Name), ""))
		last = e.Name
	}
	switch {
	case m.listing.More && len(s.shown) >= maxListed:
		s.note = fmt.Sprintf("only the first %d are shown; nigh browse lists all", len(s.shown))
	case m.listing.More && last != "":
		return s.load(a, last)
	}
	return nil
}

// take adds a result of a search, or what is new about one.
func (s *sharesScreen) take(e shared) {
	for i := range s.shown {
		if old := &s.shown[i]; old.share == e.share && old.path == e.path && old.holders[0].Device.ID == e.holders[0].Device.ID {
			*old = e
			return
		}
	}
	s.shown = append(s.shown, e)
}

func entryOf(e control.ShareEntry, share, at, label, detail string) shared {
	day, _, _ := strings.Cut(e.Modified, "T")
	return shared{share: share, path: at, folder: e.Kind == "folder", size: e.Size, modified: printable(day, true), hash: e.Hash,
		holders: e.Holders, label: label, detail: detail}
}

// copied is the path of a folder of ours, the ID of a device, the hash of a file or its name.
func (s *sharesScreen) copied(a *app) (what, text string) {
	if m := s.own(); m != nil {
		return "the path", m.Folder
	}
	if p := s.device(a); p != nil {
		return "the ID", p.ID
	}
	switch e := s.entry(); {
	case e == nil:
		return "", ""
	case e.hash != "":
		return "the hash", printable(e.hash, true)
	default:
		return "the name", e.label
	}
}

func (s *sharesScreen) idle(a *app, act action) bool {
	e := s.entry()
	switch act {
	case actOpenPlace:
		return s.device(a) == nil && e == nil
	case actGet:
		return e == nil
	case actOutside:
		return s.place.top()
	case actStop, actEdit, actWho:
		return s.own() == nil
	case actAdd:
		return !s.place.top()
	}
	return false
}

func (s *sharesScreen) act(a *app, act action) tea.Cmd {
	s.sync(a)
	switch act {
	case actOpenPlace:
		if p := s.device(a); p != nil {
			return s.visit(a, place{device: p.ID, name: nameOf(p.Peer)})
		}
		e := s.entry()
		switch {
		case e == nil:
			return nil
		case !e.folder:
			return s.get(a, e)
		case s.place.query != "":
			h := e.holders[0]
			return s.visit(a, place{device: h.Device.ID, name: printable(h.Device.Name, a.th.ASCIIOnly), share: h.Share, path: h.Path})
		}
		return s.visit(a, place{device: s.place.device, name: s.place.name, share: e.share, path: e.path})
	case actOutside:
		return s.up(a)
	case actGet:
		if e := s.entry(); e != nil {
			return s.get(a, e)
		}
		return a.fail("Only what another device shares can be fetched.", "Open a device with enter first.")
	case actFind:
		return s.find(a)
	case actAdd:
		return s.add(a)
	case actStop:
		return s.stop(a)
	case actEdit:
		return s.edit(a)
	case actWho:
		return s.who(a)
	}
	return nil
}

// up goes to the folder above, the shares of the device, or the top.
func (s *sharesScreen) up(a *app) tea.Cmd {
	p := s.place
	switch {
	case p.top():
		return nil
	case p.query != "" || p.share == "":
		cmd := s.visit(a, place{})
		if p.device != "" {
			s.list.key = deviceRow + p.device
		}
		return cmd
	case p.path == "":
		p.share = ""
	default:
		if p.path = path.Dir(p.path); p.path == "." || p.path == "/" {
			p.path = ""
		}
	}
	return s.visit(a, p)
}
