"""The HTTP service: what other systems and the page call.

One service process (`server`, `app`) answers requests. What could delay or endanger it runs elsewhere:

- service (`server`, `app`, `state`): answers requests and owns the embedded vectors.
- decode workers (`decode_worker`): decode uploads and images of the index; they have no key and no database.
  `decode_pool` sends them tasks, as JSON and bytes.
- index workers (`index_worker`): search, where `SIMILARITY_SEARCH_WORKERS` asks for them; and as background
  workers (`background_worker`) compute maps, correspondences and drafts, in seconds. `index_pool` and
  `background_queue` send them calls, pickled.
- job worker (`job_worker`): runs one job that adds, verifies or removes studies, in minutes to days.
  `job_runner` starts it and watches it through the jobs of the catalog.

Index and job workers open the index as a command does, through the service that owns it; background and job
workers have a lower priority: searches go first. `process_pool` lends processes, and replaces those that die.
Inside the service `searcher` answers all searches with two threads: one encodes the waiting queries together,
one searches with them.

A request passes `proxies` and `middleware`, then `auth` (roles: `access`) and a route (`routes/`). A route
reads its body by `uploads`, shows cases by `case_views` and `schemas`, and writes the audit before the answer
leaves. Every error is a problem document (`problems`).
"""
