package xfrm

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// Each daemon marks what it puts into the kernel by numbers of its own: SAs and templates by reqids, policies by indices too. A share is one of 64 pairs of
// ranges: reqids from 0x100000 on, 0x100000 for each (libreswan counts from 16388, strongSwan from 1), and indices from 0x40000000 on, 0x1000000 for each (the
// kernel itself counts from 0, by eight). A daemon takes the first share from which the kernel holds nothing and that no other one has claimed, and writes it to its run
// directory; the next one there takes that share again, and with it what is left in it.
const (
	shares      = 64
	reqidBase   = 0x100000
	reqidSpan   = 0x100000
	indexBase   = 0x40000000
	indexSpan   = 0x1000000
	recordName  = "xfrm.json"
	indexStep   = 8 // the lowest three bits are the direction
	reservation = 0 // the reqid of reserved SPIs, counted from the first of the share; policies have those after it
)

// share is the numbers of one daemon. The worker's, but for its ranges.
type share struct {
	number    uint32
	nextReqid uint32
	nextIndex uint32
	reqids    map[uint32]bool
	indices   map[uint32]bool
	// larvalDrop is what net.core.xfrm_larval_drop was before; empty: it is as it was.
	larvalDrop string
	claimed    net.Listener // the socket by which others know; nil: somebody's name is in the way
}

func newShare(number uint32) *share {
	return &share{number: number, reqids: map[uint32]bool{}, indices: map[uint32]bool{}, nextReqid: reservation + 1}
}

func (s *share) firstReqid() uint32 { return reqidBase + s.number*reqidSpan }
func (s *share) firstIndex() uint32 { return indexBase + s.number*indexSpan }

// hasReqid and hasIndex report whether a number is of this share.
func (s *share) hasReqid(n uint32) bool { return n-s.firstReqid() < reqidSpan }
func (s *share) hasIndex(n uint32) bool { return n-s.firstIndex() < indexSpan }

// ours reports whether a policy in the kernel is of this share.
func (s *share) ours(p *message.Policy) bool {
	return s.hasIndex(p.Index) || p.Template != nil && s.hasReqid(p.Template.Reqid)
}

// reqid takes a number that no policy has. They are given in turn, so that one is not taken again soon after it was given back.
func (s *share) reqid() (uint32, error) {
	for range reqidSpan {
		n := s.nextReqid
		if s.nextReqid++; s.nextReqid == reqidSpan {
			s.nextReqid = reservation + 1
		}
		if !s.reqids[n] {
			s.reqids[n] = true
			return s.firstReqid() + n, nil
		}
	}
	return 0, fmt.Errorf("all %d reqids of this daemon are in use", reqidSpan-1)
}

func (s *share) freeReqid(n uint32) { delete(s.reqids, n-s.firstReqid()) }

// index takes a number for a policy of this direction.
func (s *share) index(d message.Direction) uint32 {
	for range indexSpan / indexStep {
		n := s.nextIndex
		s.nextIndex = (s.nextIndex + indexStep) % indexSpan
		if n != 0 && !s.indices[n] {
			s.indices[n] = true
			return s.firstIndex() + n + uint32(d)
		}
	}
	return 0 // the kernel chooses; nobody has two million policies
}

// reserve takes the numbers of a policy that an earlier daemon has left: its SAs, should it name any, are none of this one's.
func (s *share) reserve(p *message.Policy) {
	if s.hasIndex(p.Index) {
		s.indices[(p.Index-s.firstIndex())&^(indexStep-1)] = true
	}
	if p.Template != nil && s.hasReqid(p.Template.Reqid) {
		s.reqids[p.Template.Reqid-s.firstReqid()] = true
	}
}

func (s *share) freeIndex(n uint32) { delete(s.indices, (n-s.firstIndex())&^(indexStep-1)) }

// record is the file in the run directory.
type record struct {
	Share       uint32    `json:"share"`
	Reqids      [2]uint32 `json:"reqids"`  // first and last
	Indices     [2]uint32 `json:"indices"` // of policies
	LarvalDrop  string    `json:"xfrm_larval_drop,omitempty"`
	Boot        string    `json:"boot,omitempty"` // of the kernel that holds them
	Explanation string    `json:"explanation"`
}

const explanation = "SAs and policies in the kernel with these numbers are those of the ikegod with this run directory; the next one there removes what is left of them. " +
	"After another boot nothing is. xfrm_larval_drop is what net.core.xfrm_larval_drop was before it, and will be again after it."

// readShare reads which share the run directory has; nil: none yet, or it was of a kernel that does not run any more, and by now the numbers may be another daemon's. A
// record that cannot be read is put aside, and then it is the share that this run directory tries first, as it has most likely been; damaged says so.
func readShare(runDir string) (s *share, damaged string, err error) {
	name := filepath.Join(runDir, recordName)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Share >= shares {
		err = fmt.Errorf("there is no share %d", r.Share)
	}
	if err != nil {
		return putAside(runDir, name, err)
	}
	if r.Boot != "" && r.Boot != boot() {
		return nil, "", nil
	}
	s = newShare(r.Share)
	s.larvalDrop = r.LarvalDrop
	return s, "", nil
}

// putAside is readShare for a record that cannot be read.
func putAside(runDir, name string, why error) (*share, string, error) {
	aside := name + ".damaged"
	if err := os.Rename(name, aside); err != nil {
		return nil, "", fmt.Errorf("%s is damaged (%w); remove it, and look with ip xfrm state and ip xfrm policy for what an earlier daemon has left", name, errors.Join(why, err))
	}
	s := newShare(preferred(runDir))
	if err := s.write(runDir); err != nil {
		return nil, "", err
	}
	return s, fmt.Sprintf("%s is damaged (%v), and is %s now: which SAs and policies an earlier daemon has left in the kernel is not known for sure. Those with reqids from %d to %d are taken "+
		"for its own, if no other ikegod runs with these; look with ip xfrm state and ip xfrm policy for others from %d on that nobody uses, which hold their traffic back, and whether "+
		"sysctl net.core.xfrm_larval_drop is what you want", name, why, aside, s.firstReqid(), s.firstReqid()+reqidSpan-1, reqidBase), nil
}

// write puts the share into the run directory.
func (s *share) write(runDir string) error {
	text, err := json.MarshalIndent(record{
		s.number, [2]uint32{s.firstReqid(), s.firstReqid() + reqidSpan - 1}, [2]uint32{s.firstIndex(), s.firstIndex() + indexSpan - 1}, s.larvalDrop, boot(), explanation,
	}, "", "  ")
	if err != nil {
		return err
	}
	temporary := filepath.Join(runDir, recordName+".new")
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(runDir, recordName))
}

// boot is the kernel's name for the time from its start to its end; empty: not to be found out.
func boot() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// forgetShare takes it out of the run directory.
func forgetShare(runDir string) error {
	if err := os.Remove(filepath.Join(runDir, recordName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// preferred is the share that a daemon without one tries first. It differs between run directories, so that two daemons that start in one moment seldom want
// the same; the usual run directory has the first.
func preferred(runDir string) uint32 {
	if runDir == "" || filepath.Clean(runDir) == "/run/ikegod" {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(filepath.Clean(runDir)))
	return 1 + h.Sum32()%(shares-1)
}
