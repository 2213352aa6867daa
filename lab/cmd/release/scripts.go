package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// What the scripts of packages do, in functions of systemd/steps.
const (
	group      = "make_group /usr/lib/sysusers.d/nigh.conf\n"
	installing = group + "tell\nenable_wifi\ngreet\n"
	upgrading  = group + "tell\nrestart_agents\n"
	leaving    = "stop_agents\nundo_fixes /usr/bin/nigh\n"
	gone       = "forget\ntell\n"
)

// scripts writes the scripts of a format. The one for an upgrade is apart where the format has it apart.
//
// Debian says in $1 what is done, and in $2 of postinst which version was there before. What was removed and not purged keeps who
// starts at boot, as every Debian package does. RPM says in $1 how many versions are left. The others have scripts of their own
// for upgrades, and run none of these then.
func (p *packed) scripts(format string, s *scripts) (upgrade string, err error) {
	var install, before, after, update string
	switch format {
	case "deb":
		install = "if [ \"$1\" = configure ] && [ -z \"$2\" ]; then\n" + installing + "elif [ \"$1\" = configure ]; then\n" + upgrading + "fi\n"
		before = "if [ \"$1\" = remove ]; then\n" + leaving + "fi\n"
		after = "case $1 in\nremove) tell ;;\npurge)\n" + gone + ";;\nesac\n"
	case "rpm":
		install = "if [ \"$1\" -eq 1 ]; then\n" + installing + "else\n" + upgrading + "fi\n"
		before = "if [ \"$1\" -eq 0 ]; then\n" + leaving + "fi\n"
		after = "if [ \"$1\" -eq 0 ]; then\n" + gone + "fi\n"
	default:
		install, before, after, update = installing, leaving, gone, upgrading
	}
	steps, err := os.ReadFile(filepath.Join(p.release.sources, "systemd", "steps"))
	if err != nil {
		return "", err
	}
	for _, script := range []struct {
		name, text string
		path       *string
	}{
		{"postinstall", install, &s.PostInstall},
		{"preremove", before, &s.PreRemove},
		{"postremove", after, &s.PostRemove},
		{"postupgrade", update, &upgrade},
	} {
		if script.text == "" {
			continue
		}
		*script.path = filepath.Join(p.work, format+"-"+script.name)
		text := fmt.Sprintf("#!/bin/sh\nset -e\n\n%s\n%s", steps, script.text)
		if err := os.WriteFile(*script.path, []byte(text), 0o755); err != nil {
			return "", err
		}
		// An .apk has the dates of its scripts.
		if err := os.Chtimes(*script.path, p.release.version.date, p.release.version.date); err != nil {
			return "", err
		}
	}
	return upgrade, nil
}
