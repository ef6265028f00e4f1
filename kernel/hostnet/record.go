package hostnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// recordName is the file in the run directory that says which numbers were used there: the next daemon may have others, or do without a TUN.
const recordName = "hostnet.json"

// used is the numbers of one daemon. Comparable.
type used struct {
	Mark       uint32 `json:"mark"`
	Table      int    `json:"table"`      // the first
	Preference int    `json:"preference"` // the first
	NFTable    string `json:"nft_table"`
}

// record is the file.
type record struct {
	Used        []used `json:"used"`
	Explanation string `json:"explanation"`
}

const explanation = "Routing rules from these preferences on, routing tables from these on, and these nft tables (family inet) are those of the ikegod with this run directory; " +
	"the next one there removes what is left of them."

var errDamaged = errors.New("is damaged")

const lookForLeft = "ip rule, ip route show table all and nft list ruleset for what an earlier daemon has left"

func (s *Settings) used() used { return used{s.Mark, s.Table, s.Preference, s.NFTable} }

// readRecord reads what was used in a run directory; none without a directory or a file.
func readRecord(runDir string) ([]used, error) {
	if runDir == "" {
		return nil, nil
	}
	name := filepath.Join(runDir, recordName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s %w; remove it, and look with %s", name, errDamaged, lookForLeft)
	}
	return r.Used, nil
}

// writeRecord puts what is used into a run directory; nothing: the file goes.
func writeRecord(runDir string, all []used) error {
	if runDir == "" {
		return nil
	}
	name := filepath.Join(runDir, recordName)
	if len(all) == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(record{all, explanation}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// recall reads which other numbers an earlier daemon has used. A file that cannot be read as that is put aside: what it told of may stay, but traffic has to be protected now.
func (n *Net) recall() error {
	all, err := readRecord(n.set.RunDir)
	if errors.Is(err, errDamaged) {
		name := filepath.Join(n.set.RunDir, recordName)
		aside := name + ".damaged"
		if err := os.Rename(name, aside); err != nil {
			return fmt.Errorf("%s %w and could not be put aside: %w", name, errDamaged, err)
		}
		n.notes = append(n.notes, fmt.Sprintf("%s %v and was put aside as %s: look with %s", name, errDamaged, aside, lookForLeft))
		return nil
	}
	n.others = slices.DeleteFunc(all, func(u used) bool { return u == n.set.used() })
	return err
}

// note writes down that this Net uses its numbers, beside those.
func (n *Net) note() error {
	n.noted = true
	return writeRecord(n.set.RunDir, append(slices.Clone(n.others), n.set.used()))
}

// unnote writes down that nothing is left but what others had.
func (n *Net) unnote() error {
	if n.noted {
		return writeRecord(n.set.RunDir, n.others)
	}
	return nil
}
