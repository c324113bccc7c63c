"""Draws CLEVR scenes by ray tracing: four lights, hard shadows, one mirror.

A physical model of CLEVR's Blender file with the ground as an infinite plane,
tuned on real CLEVR images. Letters: r rays, o objects, l lights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry


class Shading(NamedTuple):
  ambient: float = 0.118
  diffuse_metal: float = 0.074
  diffuse_rubber: float = 0.688
  mirror: float = 0.861
  gloss_metal: float = 0.404
  rough_metal: float = 0.3
  gloss_rubber: float = 0.054
  rough_rubber: float = 0.3
  ground: float = 0.693
  horizon: float = 0.118
  near: float = 10.0
  far: float = 40.0
  key: float = 1.0
  fill: float = 1.0
  back: float = 1.0
  sun: float = 1.0
  bounce_r: float = 0.0

SHADING = Shading()

COLORS = np.array([[87,87,87],[42,75,215],[129,74,25],[255,238,51],[173,35,35],[29,105,20],[129,38,192],[41,208,208]],np.float32)/255
POWER = np.array([78.5,23.6,39.3])/np.pi
LIGHT_COLORS = np.array([[1,.932,.817],[.762,.818,1],[1,1,1],[1,1,1]])
SUN = np.array([.4145,-.1946,.889])
SUN = SUN/np.linalg.norm(SUN)
EPS=1e-3

def trace(solids, rays):
  """nearest object along rays -> t, id(0=none), normal."""
  shape = jnp.broadcast_shapes(rays.x.shape, rays.dx.shape)
  def body(c, item):
    t, ids, nx, ny, nz = c
    i, s = item
    l = scene_geometry.local_rays(s, rays)
    (q, ex, ey, ez), leave = scene_geometry.crossings(s, l)
    side = jnp.maximum(ex, ey)
    flat = jnp.maximum(side, ez)
    entry = jnp.maximum(flat, q)
    hit = (entry < leave) & (entry < t) & (entry > 0)
    round_ = q >= flat
    onx = ~round_ & (ex >= jnp.maximum(ey, ez))
    ony = ~round_ & ~onx & (ey >= ez)
    onz = ~round_ & ~onx & ~ony
    mx = jnp.where(round_, l.x + entry*l.dx, jnp.where(onx, -jnp.sign(l.dx), 0.))
    my = jnp.where(round_, l.y + entry*l.dy, jnp.where(ony, -jnp.sign(l.dy), 0.))
    mz = jnp.where(round_, s.quadric_z*(l.z + entry*l.dz), jnp.where(onz, -jnp.sign(l.dz), 0.))
    return (jnp.where(hit, entry, t), jnp.where(hit, i, ids),
      jnp.where(hit, s.cos*mx - s.sin*my, nx), jnp.where(hit, s.sin*mx+s.cos*my, ny), jnp.where(hit, mz, nz)), None
  z = jnp.zeros(shape)
  n = solids.x.shape[0]
  # ground
  down = rays.dz < -1e-6
  tg = jnp.where(down, -rays.z / jnp.where(down, rays.dz, -1.), 1e4) + z
  c, _ = jax.lax.scan(body, (tg, z.astype(jnp.int32), z, z, z+1.), (jnp.arange(1, n+1), solids))
  return c

def visibility(solids, lights, x, y, z):
  """[l, r] 1 where lit."""
  sun = jnp.asarray(SUN*100., jnp.float32)
  lx = jnp.concatenate([lights[:,0], x[:1]*0+sun[0]]); ly=jnp.concatenate([lights[:,1], sun[1:2]]); lz=jnp.concatenate([lights[:,2], sun[2:3]])
  rays = scene_geometry.Rays(x[None], y[None], z[None], lx[:,None]-x[None], ly[:,None]-y[None], lz[:,None]-z[None])
  def body(blocked, s):
    (q, ex, ey, ez), leave = scene_geometry.crossings(s, scene_geometry.local_rays(s, rays))
    entry = jnp.maximum(jnp.maximum(q, ex), jnp.maximum(ey, ez))
    return blocked | ((entry < leave) & (leave > 0)), None
  b, _ = jax.lax.scan(body, jnp.zeros((4, x.shape[0]), bool), solids)
  return ~b

def light(scene, solids, C, x, y, z, nx, ny, nz, vx, vy, vz, rough, shadows=True):
  """diffuse irradiance rgb, gloss rgb (per unit). v: unit vector to viewer"""
  x,y,z = x+EPS*nx, y+EPS*ny, z+EPS*nz
  vis = visibility(solids, scene.lights, x, y, z) if shadows else None
  diff=[C.ambient*jnp.pi]*3; gloss=[0.]*3
  strength=[C.key,C.fill,C.back,C.sun]
  for i in range(4):
    if i<3:
      px,py,pz = scene.lights[i,0],scene.lights[i,1],scene.lights[i,2]
      dx,dy,dz = px-x,py-y,pz-z
      d2 = dx*dx+dy*dy+dz*dz
      inv = jax.lax.rsqrt(d2)
      dx,dy,dz = dx*inv,dy*inv,dz*inv
      lp = jax.lax.rsqrt(px*px+py*py+pz*pz)
      ct = jnp.maximum((dx*px+dy*py+dz*pz)*lp,0.)
      E = POWER[i]*ct*inv*inv
    else:
      dx,dy,dz = (jnp.float32(SUN[j]) for j in range(3))
      E = .45
    ndl = jnp.maximum(nx*dx+ny*dy+nz*dz, 0.)
    e = E*ndl*strength[i]
    if shadows: e = jnp.where(vis[i], e, 0.)
    hx,hy,hz = dx+vx,dy+vy,dz+vz
    hi = jax.lax.rsqrt(hx*hx+hy*hy+hz*hz+1e-12)
    ndh = (nx*hx+ny*hy+nz*hz)*hi
    a2 = rough*rough
    k = ndh*ndh*(a2-1)+1
    D = a2/(jnp.pi*k*k)
    for c in range(3):
      diff[c] += e*LIGHT_COLORS[i,c]
      gloss[c] += e*LIGHT_COLORS[i,c]*D
  return diff, gloss

def surface(scene, C, ids, t):
  """albedo rgb, metal flag"""
  n = scene.shape.shape[0]
  col = jnp.asarray(COLORS)[scene.color]
  metal = scene.material==1
  index = jnp.maximum(ids-1,0)
  isobj = ids>0
  rgb = [jnp.where(isobj, col[:,c][index], C.ground) for c in range(3)]
  return rgb, metal[index] & isobj, isobj

def fade(C, x,y, rgb):
  dist = jnp.sqrt(x*x+y*y)
  w = jnp.clip((dist-C.near)/(C.far-C.near),0.,1.)
  return [c*(1-w)+C.horizon*w for c in rgb]

def radiance(scene, solids, C, rays, shadows, mirror):
  t, ids, nx, ny, nz = trace(solids, rays)
  x,y,z = rays.x+t*rays.dx, rays.y+t*rays.dy, rays.z+t*rays.dz
  inv = jax.lax.rsqrt(rays.dx**2+rays.dy**2+rays.dz**2)
  vx,vy,vz = -rays.dx*inv,-rays.dy*inv,-rays.dz*inv
  rgb, metal, isobj = surface(scene, C, ids, t)
  rough = jnp.where(metal, C.rough_metal, C.rough_rubber)
  diff, gloss = light(scene, solids, C, x,y,z,nx,ny,nz,vx,vy,vz,rough, shadows)
  kd = jnp.where(isobj, jnp.where(metal, C.diffuse_metal, C.diffuse_rubber), 1.)/jnp.pi
  out = [kd*rgb[c]*diff[c] for c in range(3)]
  far = fade(C, x, y, out)
  out = [jnp.where(isobj, out[c], far[c]) for c in range(3)]
  ks = jnp.where(isobj, jnp.where(metal, C.gloss_metal, C.gloss_rubber), 0.)
  tint = [jnp.where(metal, rgb[c], 1.) for c in range(3)]
  out = [out[c]+ks*tint[c]*gloss[c] for c in range(3)]
  if mirror:
    vn = 2*(vx*nx+vy*ny+vz*nz)
    r = scene_geometry.Rays(x+EPS*nx,y+EPS*ny,z+EPS*nz, vn*nx-vx, vn*ny-vy, vn*nz-vz)
    refl, _ = radiance(scene, solids, C, r, mirror > 1, 0)
    out = [out[c]+jnp.where(metal, C.mirror*rgb[c]*refl[c],0.) for c in range(3)]
  return out, ids

def srgb(x):
  x = jnp.clip(x,0.,1.)
  return jnp.where(x<=0.0031308, 12.92*x, 1.055*jnp.exp(jnp.log(jnp.maximum(x,1e-4))/2.4)-.055)

def render(scene, *, height, width, window=(0,0,240,320), antialias=2, C=SHADING, mirror=2, chunk=4096, raw=False):
  top,left,wh,ww = window
  a=antialias
  nrays = height*width*a*a
  # ray order: (subsample, row, col)
  def coords(idx, sy, sx):
    row, col = idx // width, idx % width
    return left + (col+sx)*(ww/width), top+(row+sy)*(wh/height)
  S = scene_geometry.solids(scene)
  npix=height*width
  m = max(1, -(-npix*a*a//chunk)); 
  while npix % m: m+=1
  idx = jnp.arange(npix).reshape(m, npix//m)
  offs=[((i+.5)/a) for i in range(a)]
  def one(idx):
    acc=[0.]*3
    for sy in offs:
      for sx in offs:
        px,py=coords(idx,sy,sx)
        rgb,ids = radiance(scene,S,C,scene_geometry.camera_rays(scene.camera,px,py),True,mirror)
        acc=[acc[c]+rgb[c]/(a*a) for c in range(3)]
    if a>1:
      px,py=coords(idx,.5,.5); ids=scene_geometry.visible_ids(scene,px,py)
    return jnp.stack([srgb(c) for c in acc]), ids
  rgb, ids = jax.lax.map(one, idx) if m>1 else jax.tree.map(lambda x:x[None], one(idx[0]))
  img = jnp.moveaxis(rgb,1,-1).reshape(height,width,3)
  if not raw: img=jnp.round(img*255).astype(jnp.uint8)
  return img, ids.reshape(height,width)
