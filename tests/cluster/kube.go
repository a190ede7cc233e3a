package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// kube speaks to the API server as one of the cluster's identities.
type kube struct {
	base string
	http *http.Client
}

var errNotFound = errors.New("not found")

// clients keeps one client for each authority and identity, so that connections are reused. A new start
// of the cluster makes a new authority.
var clients sync.Map

func newKube(base, id string) (*kube, error) {
	ca, err := os.ReadFile(pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	key := string(ca) + id
	if c, ok := clients.Load(key); ok {
		return &kube{base, c.(*http.Client)}, nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	cert, err := tls.LoadX509KeyPair(pki(id+".crt"), pki(id+".key"))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}},
		ForceAttemptHTTP2: true,
	}}
	clients.Store(key, client)
	return &kube{base, client}, nil
}

func (k *kube) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.base+path, in)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, errNotFound
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 2000))
	return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
}

func (k *kube) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := k.open(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (k *kube) get(ctx context.Context, path string) ([]byte, error) {
	return k.do(ctx, http.MethodGet, path, nil)
}

// follow calls see for every object of a collection, now and whenever one changes, until the context
// ends. It lists again whenever the watch breaks.
func follow[T any](ctx context.Context, k *kube, path string, see func(T)) {
	for ctx.Err() == nil {
		if err := followOnce(ctx, k, path, see); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s watching %s: %v\n", time.Now().Format(time.RFC3339), path, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func followOnce[T any](ctx context.Context, k *kube, path string, see func(T)) error {
	data, err := k.get(ctx, path)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []T
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		see(item)
	}
	resp, err := k.open(ctx, http.MethodGet, path+"?watch=1&timeoutSeconds=300&resourceVersion="+list.Metadata.ResourceVersion, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for decoder := json.NewDecoder(resp.Body); ; {
		var event struct {
			Type   string
			Object T
		}
		if err := decoder.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			see(event.Object)
		case "ERROR":
			return nil // too old: list again
		}
	}
}
