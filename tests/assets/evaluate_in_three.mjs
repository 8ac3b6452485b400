// Evaluates the animations of GLBs with three.js: world-space corners of all triangles at given times.
//
//   node evaluate_in_three.mjs JOB
//
// JOB is a JSON file: [{glb, times: [[seconds, ...] per animation], output}, ...]. To each `output` goes a line of JSON,
// a list per animation of {node, primitive, skinned, instances, triangles, mirrored: [[boolean per instance] per time]}, and
// then float32 corners: animation, primitive, time, instance, triangle, corner, xyz, in glTF's axes.

import { readFileSync, writeFileSync } from 'node:fs';
import { AnimationMixer, Matrix4, SkinnedMesh, Vector3, Vector4 } from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { MeshoptDecoder } from 'three/addons/libs/meshopt_decoder.module.js';

// three.js has four weights per vertex and makes their sum one; of eight, the other four would be lost.
SkinnedMesh.prototype.normalizeSkinWeights = () => {};

const loader = new GLTFLoader().setMeshoptDecoder(MeshoptDecoder);
for (const { glb, times, output } of JSON.parse(readFileSync(process.argv[2]))) {
  const headers = [];
  const chunks = [];
  for (const [number, moments] of times.entries()) {
    const bytes = readFileSync(glb);
    const gltf = await loader.parseAsync(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), '');
    const entries = meshesOf(gltf).map(found => ({ ...found, mirrored: [], corners: [] }));
    const mixer = new AnimationMixer(gltf.scene);
    const action = mixer.clipAction(gltf.animations[number]).play();
    for (const time of moments) {
      action.time = time;
      mixer.update(0);
      gltf.scene.traverse(object => object.quaternion.normalize()); // three.js takes quantized ones as they are
      gltf.scene.updateMatrixWorld(true);
      for (const { mesh, corners, mirrored } of entries) {
        corners.push(...worldCorners(mesh));
        mirrored.push(instanceMatrices(mesh).map(matrix => matrix.determinant() < 0));
      }
    }
    headers.push(entries.map(({ mesh, node, primitive, mirrored }) => ({
      node,
      primitive,
      skinned: mesh.isSkinnedMesh === true,
      instances: instanceMatrices(mesh).length,
      triangles: cornerIndices(mesh.geometry).length / 3,
      mirrored,
    })));
    chunks.push(...entries.map(({ corners }) => Buffer.from(Float32Array.from(corners).buffer)));
  }
  writeFileSync(output, Buffer.concat([Buffer.from(`${JSON.stringify(headers)}\n`), ...chunks]));
}

// The meshes of a scene with the glTF node and primitive that they come from.
function meshesOf(gltf) {
  const found = [];
  const visit = (object, node) => {
    const own = gltf.parser.associations.get(object);
    if (own?.nodes !== undefined) node = own.nodes;
    if (object.isMesh) found.push({ mesh: object, node, primitive: own?.primitives ?? 0 });
    for (const child of object.children) visit(child, node);
  };
  visit(gltf.scene);
  return found;
}

function cornerIndices(geometry) {
  return geometry.index ? Array.from(geometry.index.array) : [...Array(geometry.attributes.position.count).keys()];
}

function instanceMatrices(mesh) {
  if (!mesh.isInstancedMesh) return [mesh.matrixWorld];
  return [...Array(mesh.count).keys()].map(index => {
    const matrix = new Matrix4();
    mesh.getMatrixAt(index, matrix);
    return matrix.premultiply(mesh.matrixWorld);
  });
}

function worldCorners(mesh) {
  const { geometry } = mesh;
  const numbers = cornerIndices(geometry);
  const points = [...Array(geometry.attributes.position.count).keys()].map(index => localPosition(mesh, index));
  const corners = [];
  for (const matrix of instanceMatrices(mesh)) {
    const world = points.map(point => mesh.isSkinnedMesh && geometry.attributes.joints_1
      ? point : point.clone().applyMatrix4(matrix));
    for (const number of numbers) corners.push(...world[number].toArray());
  }
  return corners;
}

// The position of a vertex after morphing and skinning, before the transform of its mesh; with eight weights in the world.
function localPosition(mesh, index) {
  if (!mesh.geometry.attributes.joints_1) return mesh.getVertexPosition(index, new Vector3());
  const { attributes } = mesh.geometry;
  const rest = morphedPosition(mesh, index);
  const sum = new Vector3();
  const matrix = new Matrix4();
  const sets = [[attributes.skinIndex, attributes.skinWeight], [attributes.joints_1, attributes.weights_1]];
  for (const [joints, weights] of sets) {
    const joint = new Vector4().fromBufferAttribute(joints, index);
    const weight = new Vector4().fromBufferAttribute(weights, index);
    for (let slot = 0; slot < 4; slot++) {
      const bone = joint.getComponent(slot);
      matrix.multiplyMatrices(mesh.skeleton.bones[bone].matrixWorld, mesh.skeleton.boneInverses[bone]);
      sum.addScaledVector(rest.clone().applyMatrix4(matrix), weight.getComponent(slot));
    }
  }
  return sum;
}

function morphedPosition(mesh, index) {
  const point = new Vector3().fromBufferAttribute(mesh.geometry.attributes.position, index);
  const delta = new Vector3();
  (mesh.geometry.morphAttributes.position ?? []).forEach((target, number) => {
    point.addScaledVector(delta.fromBufferAttribute(target, index), mesh.morphTargetInfluences[number]);
  });
  return point;
}
