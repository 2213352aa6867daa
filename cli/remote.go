package cli

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// A remote is what DEVICE[:SHARE[/PATH]] stands for.
type remote struct {
	device, share, path string
	colon               bool // there was one
}

func (r remote) String() string {
	s := r.device + ":" + r.share
	if r.path != "" {
		s += "/" + r.path
	}
	return s
}

// parseRemote splits text at the colon after the device. An address keeps its port.
func parseRemote(text string) remote {
	device, rest, colon := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") {
		end := strings.Index(text, "]")
		if end < 0 {
			return remote{device: text}
		}
		device, rest, colon = text[:end+1], "", false
		if after, ok := strings.CutPrefix(text[end+1:], ":"); ok {
			rest, colon = after, true
		}
	}
	if _, err := netip.ParseAddr(strings.Trim(device, "[]")); err == nil && colon {
		port, after, more := strings.Cut(rest, ":")
		if _, err := netip.ParseAddrPort(device + ":" + port); err == nil {
			device, rest, colon = device+":"+port, after, more
		}
	}
	r := remote{device: device, colon: colon}
	r.share, r.path, _ = strings.Cut(rest, "/")
	if r.path != "" {
		r.path = strings.TrimPrefix(path.Clean("/"+r.path), "/")
	}
	return r
}

// completeRemote completes DEVICE:SHARE/PATH, step by step.
func (a *app) completeRemote(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	r := parseRemote(prefix)
	all, directive := a.candidates(cmd, prefix, func(ctx context.Context, c *control.Client) []string {
		peers, err := c.Peers(ctx)
		if err != nil {
			return nil
		}
		var all []string
		for _, p := range peers {
			// One that is away would have to be looked for first.
			if p.State != "ready" || p.Trust != "trusted" {
				continue
			}
			for _, name := range []string{p.Name, p.Short} {
				switch {
				case !oneWord(name), strings.Contains(name, ":"):
				case !r.colon:
					all = append(all, name+":")
				case strings.EqualFold(name, r.device):
					return remoteNames(ctx, c, r.device, prefix[strings.Index(prefix, ":")+1:])
				}
			}
		}
		return all
	})
	if len(all) == 1 {
		if name, _, _ := strings.Cut(all[0], "\t"); !strings.HasSuffix(name, ":") && !strings.HasSuffix(name, "/") {
			return all, directive // a file: nothing more is to come
		}
	}
	return all, directive | cobra.ShellCompDirectiveNoSpace
}

// remoteNames returns the shares of a device, or what is in the folder that rest, which
// is what was typed after the colon, is in.
func remoteNames(ctx context.Context, c *control.Client, device, rest string) []string {
	req := control.BrowseRequest{Device: device}
	begin := device + ":"
	if i := strings.LastIndex(rest, "/"); i >= 0 {
		req.Share, req.Path, _ = strings.Cut(rest[:i], "/")
		begin += rest[:i+1]
	}
	l, err := c.Browse(ctx, req)
	if err != nil {
		return nil
	}
	var all []string
	for _, s := range l.Shares {
		if oneWord(s.Name) {
			all = append(all, begin+s.Name+"/\t"+count(s.Files, "file", "files"))
		}
	}
	for _, e := range l.Entries {
		if !oneWord(e.Name) {
			continue
		}
		if e.Kind == "folder" {
			all = append(all, begin+e.Name+"/\tfolder")
		} else {
			all = append(all, begin+e.Name+"\t"+size(e.Size))
		}
	}
	return all
}

// maxBrowse bounds how many entries of one folder a command takes, as many as a
// share can have.
const maxBrowse = 200_000

func (a *app) browseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "browse <device>[:SHARE[/PATH]]",
		Short: "List what a trusted device shares",
		Long: `List what a trusted device shares with this one: its shares, or what is in a folder
of one.`,
		Example: `  nigh browse "Ana's laptop"
  nigh browse "Ana's laptop:photos/2026"
  nigh browse 7Q4K-M2XD:photos --json | jq -r '.[] | select(.size > 1e9) | .name'`,
		Args: takes(1, 1, "a device, with a share or without"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := parseRemote(args[0])
			if r.device == "" || r.share == "" && r.path != "" {
				return usage(cmd, "nigh browse needs DEVICE, DEVICE:SHARE or DEVICE:SHARE/PATH, not %q", args[0])
			}
			return a.browse(cmd.Context(), r)
		},
		ValidArgsFunction: a.completeRemote,
	}
	a.jsonFlag(cmd, "a JSON array of shares, or of entries")
	return cmd
}

func (a *app) browse(ctx context.Context, r remote) error {
	req := control.BrowseRequest{Device: r.device, Share: r.share, Path: r.path}
	var l control.Listing
	entries := []control.ShareEntry{}
	// The device may have to be found first, and a group formed with it.
	err := a.withSteps(ctx, func(ctx context.Context) (err error) {
		for {
			if l, err = a.agent().Browse(ctx, req); err != nil {
				return err
			}
			entries = append(entries, l.Entries...)
			if !l.More || len(l.Entries) == 0 || len(entries) >= maxBrowse {
				return nil
			}
			// By its ID: another device may come and take the name.
			req.Device, req.After = l.Device.ID, l.Entries[len(l.Entries)-1].Name
		}
	})
	if err != nil {
		return err
	}
	if r.share == "" {
		return a.printShares(l)
	}
	if a.json {
		return a.document(entries)
	}
	if len(entries) == 0 {
		a.say("the folder is empty")
		return nil
	}
	var t table
	t.head("NAME", "SIZE", "MODIFIED")
	for _, e := range entries {
		if e.Kind == "folder" {
			t.add(e.Name+"/", "-", day(e))
		} else {
			t.add(e.Name, size(e.Size), day(e))
		}
	}
	return t.write(a)
}

// day returns the day and minute at which an entry was changed, by its device.
func day(e control.ShareEntry) string {
	if len(e.Modified) < len("2006-01-02T15:04") {
		return "-"
	}
	return strings.Replace(e.Modified[:len("2006-01-02T15:04")], "T", " ", 1)
}

func (a *app) printShares(l control.Listing) error {
	if a.json {
		if l.Shares == nil {
			l.Shares = []control.RemoteShare{}
		}
		return a.document(l.Shares)
	}
	if len(l.Shares) == 0 {
		a.say("%s shares nothing with this device", orDash(l.Device.Name))
		return nil
	}
	var t table
	t.head("NAME", "FILES", "FOLDERS", "SIZE", "STATE")
	for _, s := range l.Shares {
		t.add(s.Name, fmt.Sprint(s.Files), fmt.Sprint(s.Dirs), size(s.Bytes), word(s.State))
	}
	return t.write(a)
}

func (a *app) searchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "search WORD...",
		Short: "Look for files on all connected trusted devices",
		Long: `Look for files and folders in what all connected trusted devices share with this
one. Each word has to be in the path, at least one in the name; upper and lower case
are the same. What a device has is printed as soon as it answers; equal files on
several devices are one result. Devices that do not answer within three seconds are
named.`,
		Example: `  nigh search holiday 2026
  nigh search --json invoice | jq -r '.results[] | .holders[0] | "\(.device.name):\(.share)/\(.path)"'`,
		Args: takes(1, -1, "a word"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.search(cmd.Context(), strings.Join(args, " "))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	a.jsonFlag(cmd, "one JSON object: results, each with its holders; asked; silent")
	return cmd
}

func (a *app) search(ctx context.Context, query string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	var answer control.SearchAnswer
	var err error
	found := finds{a: a, said: map[string]int{}}
	if a.json {
		answer, err = a.agent().Search(ctx, control.SearchRequest{Query: query})
	} else {
		answer, err = a.agent().SearchEach(ctx, control.SearchRequest{Query: query}, found.print)
	}
	if err != nil {
		return err
	}
	var silent []string
	for _, m := range answer.Silent {
		silent = append(silent, m.Name)
	}
	if len(silent) > 0 && len(silent) == answer.Asked {
		return &control.Error{Code: control.CodeTimeout, Message: "no device answered in time: " + strings.Join(silent, ", "), Hint: "try again; nigh peers shows which are connected"}
	}
	if len(silent) > 0 {
		a.say("did not answer in time: %s", strings.Join(silent, ", "))
	}
	if a.json {
		return a.document(answer)
	}
	if len(found.said) == 0 {
		a.say("nothing found on %s", count(answer.Asked, "device", "devices"))
	}
	if answer.More {
		a.say("there is more; give more words")
	}
	return nil
}

// finds prints what a search finds, as soon as each device has answered.
type finds struct {
	a      *app
	widths []int
	said   map[string]int // how many holders of a result were shown, by the first of them
}

// print shows results that are new, and of others the holders that are.
func (f *finds) print(list []control.ShareEntry) error {
	t := table{widths: f.widths}
	if len(f.said) == 0 {
		t.head("NAME", "SIZE", "WHERE")
	}
	where := func(h control.ShareHolder) string {
		return remote{device: h.Device.Name, share: h.Share, path: h.Path}.String()
	}
	for _, e := range list {
		if len(e.Holders) == 0 {
			continue
		}
		name, bytes := e.Name, size(e.Size)
		if e.Kind == "folder" {
			name, bytes = name+"/", "-"
		}
		first := e.Holders[0]
		key := first.Device.ID + "/" + first.Share + "/" + first.Path
		before, place := f.said[key], where(e.Holders[0])
		if before > 0 {
			place = "also " + where(e.Holders[before])
		}
		if more := len(e.Holders) - max(before, 1) - min(before, 1); more > 0 {
			place += fmt.Sprintf(" and %d more", more)
		}
		f.said[key] = len(e.Holders)
		t.add(name, bytes, place)
	}
	err := t.write(f.a)
	f.widths = t.widths
	return err
}
